// What loading a layer does to its cache.
#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/expert_cache.h"
#include "engine/layer.h"

namespace sparse_experts::engine {
namespace {

// Between two looks whether a load is still wanted.
constexpr uint64_t kTouchBytes = uint64_t{8} << 20;

}  // namespace

void ExpertCache::allocate(LayerState& layer) {
  if (pool_->rule() != options_.rule) fail_argument("Layers share a cache of several policies");
  auto memory = DeviceMemory::allocate(layer.shared_executor(), plan_.bytes());
  layer_ = pool_->join(&layer, num_experts_, memory, plan_.block_bytes, plan_.num_slots);
  memory_ = std::move(memory);
  host_tier_.allocate(layer.shared_executor());
  if (sequence_ != nullptr)
    position_ = sequence_->join(this, &layer, static_cast<int32_t>(num_experts_));
}

void ExpertCache::open(LayerState& layer, const std::vector<std::string>& files,
                       std::vector<LoadItem> items) {
  readers_->ahead().leave(pool_.get(), layer_);
  source_.reset();
  pool_->empty(layer_);
  host_tier_.empty();
  std::vector<int32_t> experts(static_cast<size_t>(num_experts_));
  for (size_t e = 0; e < experts.size(); ++e) experts[e] = static_cast<int32_t>(e);
  layer.set_experts(experts, {});
  source_.emplace(files, std::move(items), num_experts_,
                  layer.layer().experts.activation.gated != 0, options_.direct);
}

void ExpertCache::touch(LayerState& layer, const std::function<void()>& check) {
  if (!layer.executor().has_host_memory()) return;
  const uint64_t bytes = plan_.bytes();
  for (uint64_t done = 0; done < bytes; done += kTouchBytes) {
    check();
    std::memset(memory_->data() + done, 0, std::min(kTouchBytes, bytes - done));
  }
}

void ExpertCache::warm(const std::vector<int32_t>& experts) {
  for (const int32_t expert : experts) pool_->policy().warm(layer_, expert);
}

void ExpertCache::finish_warm(LayerState& layer, const std::vector<int32_t>& experts) {
  std::vector<int32_t> there;
  std::vector<uint8_t*> blocks;
  for (const int32_t expert : experts) {
    uint8_t* const block = block_of(expert);
    if (block == nullptr) continue;
    there.push_back(expert);
    blocks.push_back(block);
  }
  layer.set_experts(there, blocks);
}

}  // namespace sparse_experts::engine
