// Experts that a device with memory of its own has no room for, in memory of the host that it copies
// from by itself: between the slots of a layer's cache and the checkpoint. What the device misses is
// looked for here, and stays by the cache's policy. A call is given at most as many experts as there
// are blocks, so that none of its blocks changes hands meanwhile; others go from the file to the device.
//
// Used by whoever runs on the device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/cache_plan.h"
#include "engine/cache_policy.h"
#include "engine/device_memory.h"

namespace sparse_experts::engine {

class HostTier {
 public:
  // Without memory. host_bytes 0: there is no such tier. Throws CACHE_TOO_SMALL where not one expert fits.
  HostTier(EvictionRule rule, uint64_t host_bytes, uint64_t block_bytes, int64_t num_experts);

  int32_t num_blocks() const { return num_blocks_; }
  // Of a fixed set nobody leaves: what has a place on the device needs none here.
  bool is_fixed() const { return rule_ == EvictionRule::kStatic; }
  uint64_t bytes() const { return static_cast<uint64_t>(num_blocks_) * block_bytes_; }
  // Throws OUT_OF_MEMORY.
  void allocate(std::shared_ptr<DeviceExecutor> executor);
  // No expert is here.
  void empty();

  struct Place {
    uint8_t* block = nullptr;  // null: it goes past
    bool is_hit = false;       // it lies there already
  };
  // Of the experts that the device misses, by rising number; a place for each. Until the next plan those
  // with a block keep it.
  std::vector<Place> plan(const std::vector<int32_t>& experts);
  // It did not arrive.
  void forget(int32_t expert);

 private:
  const EvictionRule rule_;
  const uint64_t block_bytes_;
  const int32_t num_experts_;
  const int32_t num_blocks_;
  std::shared_ptr<DeviceMemory> memory_;
  std::unique_ptr<CachePolicy> policy_;
};

}  // namespace sparse_experts::engine
