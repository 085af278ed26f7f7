// Experts and weights of each token from its router logits. The rules are those of SeRouting;
// scores are taken in double.
#pragma once

#include <cstdint>
#include <vector>

#include "abi/backend.h"
#include "core/status.h"

namespace sparse_experts::cpu {

struct RunContext;

// Scratch of routing, kept by the device between calls.
struct SelectScratch {
  std::vector<double>
      best_scores;  // [T] batch capacity: the largest probability, for prioritised queues
  std::vector<double> slot_scores;  // [T, K] batch capacity: unrounded weights before dropping
  std::vector<int64_t> order;
  std::vector<int64_t> counts;
  std::vector<int64_t> stamps;
};

// Ids, weights and flags of rows [first, first + num_rows) of args; `logits` is those rows'
// [num_rows, num_experts]. Capacity families get what they have before dropping; apply_capacity
// ends them.
void select_rows(const RunContext& context, const SeRouting& routing, const SeSelectArgs& args,
                 const float* logits, int64_t first, int64_t num_rows);

// Sizes the scratch for a call; before select_rows.
void prepare_select(const RunContext& context, const SeRouting& routing, const SeSelectArgs& args);

}  // namespace sparse_experts::cpu
