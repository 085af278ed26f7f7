// Memory of the host between the slots of a layer's cache on a device with memory of its own and the
// checkpoint: blocks that the device copies from by itself. Which experts lie there is the affair of
// host_policy.h. Others go from the file to the device.
//
// Used by whoever runs on the device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/device_memory.h"
#include "engine/host_policy.h"

namespace sparse_experts::engine {

class HostTier {
 public:
  // Without memory. host_bytes 0: there is no such tier. Throws CACHE_TOO_SMALL where not one expert fits.
  HostTier(EvictionRule rule, uint64_t host_bytes, uint64_t block_bytes, int64_t num_experts);

  int32_t num_blocks() const { return policy_.num_blocks(); }
  uint64_t bytes() const { return static_cast<uint64_t>(num_blocks()) * block_bytes_; }
  // Throws OUT_OF_MEMORY.
  void allocate(std::shared_ptr<DeviceExecutor> executor);
  // No expert is here.
  void empty() { policy_.empty(); }

  struct Place {
    uint8_t* block = nullptr;  // null: it goes past
    bool is_hit = false;       // it lies there already
  };
  // Of the experts that the device misses, by rising number; a place for each. Until the next plan those
  // with a block keep it.
  std::vector<Place> plan(const std::vector<HostPolicy::Miss>& misses);
  // It did not arrive.
  void forget(int32_t expert) { policy_.forget(expert); }

 private:
  const uint64_t block_bytes_;
  HostPolicy policy_;
  std::shared_ptr<DeviceMemory> memory_;
};

}  // namespace sparse_experts::engine
