// How the memory that a layer's experts may take is divided.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/cache_policy.h"

namespace sparse_experts::engine {

// How the files of a checkpoint are read when a call needs an expert.
enum class DirectReads {
  kAuto,  // past the page cache where the file system can; else through it, and forgotten there
  kOff    // through the page cache, where what was read may stay
};

class CachePool;
class LayerSequence;

struct CacheOptions {
  // Both 0: all experts stay in memory.
  uint64_t host_bytes = 0;
  // Of a device that has memory of its own; host_bytes then are for experts that it has no room for,
  // and may be 0.
  uint64_t device_bytes = 0;
  EvictionRule rule = EvictionRule::kLru;
  int32_t num_readers = 2;
  DirectReads direct = DirectReads::kAuto;
  std::shared_ptr<CachePool> pool;  // whose layers the layer joins; null: it has slots of its own
  bool prefetches = false;  // a call of the layer before this one has experts of it read ahead
  uint64_t prefetch_bytes =
      0;  // of them at most, one expert at least; 0: half of a token's experts
  std::shared_ptr<LayerSequence>
      sequence;  // whose last layer runs before this one; null: none does

  bool is_on() const { return host_bytes > 0 || device_bytes > 0; }
};

// Blocks of one expert each.
struct CachePlan {
  uint64_t block_bytes = 0;
  int32_t num_slots = 0;       // that keep their experts: what CachePolicy is told
  int32_t num_ring = 0;        // beside them, of a cache whose slots never change hands
  int32_t num_prefetched = 0;  // that a call of another layer has read ahead, at most

  uint64_t bytes() const {
    return static_cast<uint64_t>(int64_t{num_slots} + num_ring) * block_bytes;
  }
};

// A layer takes one block more than a token has experts, at least. All blocks are slots, of which the
// policy makes a ring for the calls that need one; kStatic, whose experts never leave, sets one aside: one
// block at least, and of what is left above the experts of one token at most kMostRing, so that reads and
// matmuls overlap. Throws CACHE_TOO_SMALL.
CachePlan plan_cache(EvictionRule rule, uint64_t slot_bytes, uint64_t block_bytes,
                     int64_t num_experts, int64_t top_k);

// Experts that a call has read ahead at most. lib/block/expert-cache.ts has the same rule.
int32_t plan_prefetch(const CacheOptions& options, uint64_t block_bytes, int64_t top_k);

}  // namespace sparse_experts::engine
