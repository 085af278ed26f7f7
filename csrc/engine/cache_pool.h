// The slots of a cache, of one layer or of several that compete for them, and who lies in which. Each
// layer brings the memory of its share. All experts have one size, and all layers are of one device,
// whose calls come one after another: whoever runs on it asks and acts. Layers join before the first of
// them is loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/cache_policy.h"
#include "engine/device_memory.h"

namespace sparse_experts::engine {

class LayerState;

class CachePool {
 public:
  explicit CachePool(EvictionRule rule) : rule_(rule) {}

  // `memory`: `num_slots` blocks of `block_bytes`, and maybe more. It stays with the pool, because others'
  // experts lie in it, when its layer has left. Returns the layer's number. Throws INVALID_ARGUMENT where
  // the experts of those before have another size, or a load has begun.
  int32_t join(LayerState* layer, int64_t num_experts, std::shared_ptr<DeviceMemory> memory,
               uint64_t block_bytes, int32_t num_slots);
  // The layer is about to go. Any thread.
  void leave(int32_t layer) noexcept;

  // The layer has no experts in the pool.
  void empty(int32_t layer);
  // As of CachePolicy.
  const std::vector<ExpertPlace>& plan(int32_t layer, const std::vector<int32_t>& experts);
  // As of CachePolicy, after plan() of a call of another layer: who runs keeps what it needs.
  const std::vector<ExpertPlace>& prefetch(int32_t layer, const std::vector<int32_t>& experts,
                                           int64_t most) {
    return policy().prefetch(layer, experts, most);
  }
  CachePolicy& policy();
  // The layer's table does not have the expert any more, unless the layer has left.
  void take_away(int32_t layer, int32_t expert);

  EvictionRule rule() const { return rule_; }
  int32_t num_slots() const { return static_cast<int32_t>(blocks_.size()); }
  uint8_t* block(int32_t slot) const { return blocks_[static_cast<size_t>(slot)]; }

 private:
  struct Member {
    LayerState* layer;  // null: it has left
    int32_t num_experts;
    bool is_to_be_emptied;
  };

  const EvictionRule rule_;
  uint64_t block_bytes_ = 0;
  std::vector<std::shared_ptr<DeviceMemory>> memories_;
  std::vector<uint8_t*> blocks_;  // by slot
  std::unique_ptr<CachePolicy> policy_;
  std::mutex mutex_;  // of members_, which layers leave on other threads
  std::vector<Member> members_;
};

}  // namespace sparse_experts::engine
