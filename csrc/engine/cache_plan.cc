#include "engine/cache_plan.h"

#include <algorithm>
#include <limits>
#include <string>

#include "engine/failure.h"

namespace sparse_experts::engine {

CachePlan plan_cache(EvictionRule rule, uint64_t slot_bytes, uint64_t block_bytes,
                     int64_t num_experts, int64_t top_k) {
  const int64_t least = std::min(num_experts, top_k + 1);
  const uint64_t most = std::numeric_limits<int32_t>::max();
  const auto blocks = static_cast<int64_t>(std::min(slot_bytes / block_bytes, most));
  if (blocks < least) {
    Failure failure(ErrorCode::kCacheTooSmall,
                    "the cache has " + std::to_string(slot_bytes) + " bytes, and the layer needs " +
                        std::to_string(least) + " experts of " + std::to_string(block_bytes) +
                        " bytes in memory at least");
    failure.needed_bytes = static_cast<uint64_t>(least) * block_bytes;
    failure.free_bytes = slot_bytes;
    throw FailureException(failure);
  }
  CachePlan plan;
  plan.block_bytes = block_bytes;
  const bool has_ring = rule == EvictionRule::kStatic && blocks < num_experts;
  const int64_t ring = has_ring ? std::clamp<int64_t>(blocks - top_k, 1, kMostRing) : 0;
  plan.num_ring = static_cast<int32_t>(ring);
  plan.num_slots = static_cast<int32_t>(std::min(blocks, num_experts) - ring);
  return plan;
}

int32_t plan_prefetch(const CacheOptions& options, uint64_t block_bytes, int64_t top_k) {
  if (!options.prefetches) return 0;
  if (options.prefetch_bytes == 0) return static_cast<int32_t>((top_k + 1) / 2);
  const uint64_t most = std::numeric_limits<int32_t>::max();
  return static_cast<int32_t>(std::clamp<uint64_t>(options.prefetch_bytes / block_bytes, 1, most));
}

}  // namespace sparse_experts::engine
