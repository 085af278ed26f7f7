#include "engine/host_tier.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/failure.h"

namespace sparse_experts::engine {
namespace {

int32_t blocks_of(uint64_t host_bytes, uint64_t block_bytes, int64_t num_experts) {
  if (host_bytes == 0) return 0;
  const uint64_t blocks = std::min(host_bytes / block_bytes, static_cast<uint64_t>(num_experts));
  if (blocks > 0) return static_cast<int32_t>(blocks);
  Failure failure(ErrorCode::kCacheTooSmall,
                  "the host's part of the cache has " + std::to_string(host_bytes) +
                      " bytes, and an expert takes " + std::to_string(block_bytes));
  failure.needed_bytes = block_bytes;
  failure.free_bytes = host_bytes;
  throw FailureException(failure);
}

}  // namespace

HostTier::HostTier(EvictionRule rule, uint64_t host_bytes, uint64_t block_bytes,
                   int64_t num_experts)
    : rule_(rule),
      block_bytes_(block_bytes),
      num_experts_(static_cast<int32_t>(num_experts)),
      num_blocks_(blocks_of(host_bytes, block_bytes, num_experts)) {}

void HostTier::allocate(std::shared_ptr<DeviceExecutor> executor) {
  if (num_blocks_ == 0) return;
  memory_ = DeviceMemory::allocate_pinned(std::move(executor), bytes());
  empty();
}

void HostTier::empty() {
  if (num_blocks_ == 0) return;
  CacheShape shape;
  shape.rule = rule_;
  shape.pool_slots = {num_blocks_};
  shape.layers = {{num_experts_, 0}};
  policy_ = std::make_unique<CachePolicy>(shape);
}

std::vector<HostTier::Place> HostTier::plan(const std::vector<int32_t>& experts) {
  std::vector<Place> places(experts.size());
  if (num_blocks_ == 0) return places;
  const auto is_here = [&](int32_t expert) { return policy_->slot_of(0, expert) != kNone; };
  auto room =
      static_cast<int64_t>(num_blocks_) - std::count_if(experts.begin(), experts.end(), is_here);
  std::vector<size_t> chosen;
  std::vector<int32_t> asked;
  for (size_t i = 0; i < experts.size(); ++i) {
    if (!is_here(experts[i]) && room-- <= 0) continue;
    chosen.push_back(i);
    asked.push_back(experts[i]);
  }
  const std::vector<ExpertPlace>& found =
      policy_->plan(0, asked.data(), static_cast<int64_t>(asked.size()));
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i].slot == kNone) continue;
    uint8_t* const block = memory_->data() + static_cast<uint64_t>(found[i].slot) * block_bytes_;
    places[chosen[i]] = {block, found[i].is_hit};
  }
  return places;
}

void HostTier::forget(int32_t expert) {
  if (policy_ != nullptr) policy_->forget(0, expert);
}

}  // namespace sparse_experts::engine
