// How the memory that a layer's experts may take is divided.
#pragma once

#include <cstdint>

#include "engine/cache_policy.h"

namespace sparse_experts::engine {

// How the files of a checkpoint are read when a call needs an expert.
enum class DirectReads {
  kAuto,  // past the page cache where the file system can; else through it, and forgotten there
  kOff    // through the page cache, where what was read may stay
};

struct CacheOptions {
  uint64_t host_bytes = 0;  // 0: all experts stay in memory
  EvictionRule rule = EvictionRule::kLru;
  int32_t num_readers = 2;
  DirectReads direct = DirectReads::kAuto;
};

// Blocks of one expert each.
struct CachePlan {
  uint64_t block_bytes = 0;
  int32_t num_slots = 0;  // that keep their experts: what CachePolicy is told
  int32_t num_ring = 0;   // that experts pass through where a call needs more than have slots
};

// A layer takes one slot more than a token has experts, at least: with the slots of one token and a ring
// of one it can compute whatever a call needs. What is left above that widens the ring first, to at most
// four blocks, so that reads and matmuls of wide calls overlap. Throws CACHE_TOO_SMALL.
CachePlan plan_cache(uint64_t host_bytes, uint64_t block_bytes, int64_t num_experts, int64_t top_k);

}  // namespace sparse_experts::engine
