// Which experts lie in memory of the host behind the slots of a layer on a device with memory of its own:
// decisions alone, as cache_policy.h makes them for the slots, so that the engine and a simulation come
// to the same integers.
//
// The rules. The blocks are one layer's, and hold an expert each.
//   1. A call asks for the experts that it misses on the device, and the blocks see no others. Under
//      static it asks for those that pass there: what has a slot never leaves it.
//   2. What lies here keeps its block. Of the others the first, by rising number, are meant: as many as
//      blocks are left, so that none changes hands within a call. The rest goes past.
//   3. Those take free blocks, and where there are none evict by rules 2 to 5 of cache_policy.h, for which
//      only these calls, and in them only these experts, count. Under static nobody is evicted.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/cache_policy.h"

namespace sparse_experts::engine {

class HostPolicy {
 public:
  struct Miss {
    int32_t expert = 0;
    bool passes = false;  // it is gone from the device when the call has ended
  };
  struct Place {
    int32_t block = kNone;  // kNone: it goes past
    bool is_hit = false;    // it lies there already
  };

  // Without blocks everything goes past.
  HostPolicy(EvictionRule rule, int32_t num_blocks, int32_t num_experts);

  int32_t num_blocks() const { return num_blocks_; }
  // `misses`: distinct, by rising number. A place for each, valid until the next call.
  const std::vector<Place>& plan(const std::vector<Miss>& misses);
  // It did not arrive.
  void forget(int32_t expert);
  // No expert is here.
  void empty();

 private:
  bool is_asked(const Miss& miss) const { return rule_ != EvictionRule::kStatic || miss.passes; }
  bool is_here(int32_t expert) const { return policy_->slot_of(0, expert) != kNone; }

  const EvictionRule rule_;
  const int32_t num_blocks_;
  const int32_t num_experts_;
  std::unique_ptr<CachePolicy> policy_;  // null without blocks
  std::vector<Place> places_;
};

}  // namespace sparse_experts::engine
