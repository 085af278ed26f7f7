#include "engine/cache_pool.h"

#include <utility>

#include "engine/layer.h"

namespace sparse_experts::engine {

int32_t CachePool::join(LayerState* layer, int64_t num_experts,
                        std::shared_ptr<DeviceMemory> memory, uint64_t block_bytes,
                        int32_t num_slots) {
  if (policy_ != nullptr) fail_argument("A layer joins a cache whose layers are loaded already");
  if (!members_.empty() && block_bytes != block_bytes_)
    fail_argument("Layers share a cache whose experts have several sizes");
  block_bytes_ = block_bytes;
  for (int32_t slot = 0; slot < num_slots; ++slot)
    blocks_.push_back(memory->data() + static_cast<uint64_t>(slot) * block_bytes);
  memories_.push_back(std::move(memory));
  const std::lock_guard<std::mutex> lock(mutex_);
  members_.push_back({layer, static_cast<int32_t>(num_experts), false});
  return static_cast<int32_t>(members_.size()) - 1;
}

void CachePool::leave(int32_t layer) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  Member& member = members_[static_cast<size_t>(layer)];
  member.layer = nullptr;
  member.is_to_be_emptied = true;
}

CachePolicy& CachePool::policy() {
  if (policy_ == nullptr) {
    CacheShape shape;
    shape.rule = rule_;
    shape.pool_slots = {num_slots()};
    for (const Member& member : members_) shape.layers.push_back({member.num_experts, 0});
    policy_ = std::make_unique<CachePolicy>(shape);
  }
  return *policy_;
}

void CachePool::empty(int32_t layer) {
  const int32_t num_experts = members_[static_cast<size_t>(layer)].num_experts;
  for (int32_t expert = 0; expert < num_experts; ++expert) policy().forget(layer, expert);
}

const std::vector<ExpertPlace>& CachePool::plan(int32_t layer,
                                                const std::vector<int32_t>& experts) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < members_.size(); ++i) {
      if (!std::exchange(members_[i].is_to_be_emptied, false)) continue;
      empty(static_cast<int32_t>(i));
    }
  }
  return policy().plan(layer, experts.data(), static_cast<int64_t>(experts.size()));
}

void CachePool::take_away(int32_t layer, int32_t expert) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Member& member = members_[static_cast<size_t>(layer)];
  if (member.layer != nullptr) member.layer->set_experts({expert}, {});
}

}  // namespace sparse_experts::engine
