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
    : block_bytes_(block_bytes),
      policy_(rule, blocks_of(host_bytes, block_bytes, num_experts),
              static_cast<int32_t>(num_experts)) {}

void HostTier::allocate(std::shared_ptr<DeviceExecutor> executor) {
  if (num_blocks() > 0) memory_ = DeviceMemory::allocate_pinned(std::move(executor), bytes());
}

std::vector<HostTier::Place> HostTier::plan(const std::vector<HostPolicy::Miss>& misses) {
  std::vector<Place> places;
  places.reserve(misses.size());
  for (const HostPolicy::Place& place : policy_.plan(misses)) {
    uint8_t* const block =
        place.block == kNone ? nullptr
                             : memory_->data() + static_cast<uint64_t>(place.block) * block_bytes_;
    places.push_back({block, place.is_hit});
  }
  return places;
}

}  // namespace sparse_experts::engine
