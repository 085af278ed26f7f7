// The weights of a token's slots once its experts are picked. A slot whose id is negative was dropped.
#pragma once

#include <cstdint>
#include <vector>

#include "abi/backend.h"

namespace sparse_experts::cpu {

// Softmax over the slots whose id is kept; slot 0 holds the largest logit unless it was dropped.
void softmax_kept(int64_t top_k, const int32_t* ids, const std::vector<double>& logits,
                  std::vector<double>* out);

// Keeps, by falling weight (ties: earlier slot), the fewest slots whose share of the sum reaches
// top_p; at least one.
void drop_by_top_p(double top_p, int64_t num_kept, const std::vector<double>& weights,
                   std::vector<int32_t>* by_weight, int32_t* ids);

// What normalisation divides the scores of the kept slots (id >= 0) by; 1 without normalisation.
double normalization_divisor(const SeRouting& routing, int64_t num_slots, const int32_t* ids,
                             const double* scores);

// Ends weights of kept slots: normalisation over them, scaling factor, per-expert scale. Dropped
// slots (id < 0) get 0.
void finish_weights(const SeRouting& routing, bool normalize, int64_t num_slots, const int32_t* ids,
                    const double* scores, float* weights);

}  // namespace sparse_experts::cpu
