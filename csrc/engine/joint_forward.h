// The arrays of several forwards of one layer, put together as those of one forward.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "abi/backend.h"
#include "engine/layer.h"

namespace sparse_experts::engine {

// Whether one forward can have the rows of both: they have the same arrays, of the same dtypes, in
// memory of the host. What a call keeps of its experts does not matter: that is told row by row.
bool can_run_as_one(const LayerState& layer, const SeForwardArgs& a, const SeForwardArgs& b);

// Of one call or more, any two of which can run as one. They stay as they are until hand_out().
class JointForward {
 public:
  // Copies the inputs of all. Throws std::bad_alloc.
  JointForward(const LayerState& layer, std::vector<const SeForwardArgs*> calls,
               const std::atomic<int32_t>& cancel);

  const SeForwardArgs& args() const { return args_; }
  // Copies the results to the arrays of each.
  void hand_out() const;

 private:
  uint8_t* take(uint64_t bytes);
  void take_in(int array);
  void take_budgets();

  const SeMoeLayer& layer_;
  const std::vector<const SeForwardArgs*> calls_;
  SeForwardArgs args_;
  std::unique_ptr<uint8_t[]> memory_;
  uint8_t* next_ = nullptr;  // in memory_
};

}  // namespace sparse_experts::engine
