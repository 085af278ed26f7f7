#include "cpu/ops/slot_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sparse_experts::cpu {

void softmax_kept(int64_t top_k, const int32_t* ids, const std::vector<double>& logits,
                  std::vector<double>* out) {
  double largest = -std::numeric_limits<double>::infinity();
  for (int64_t k = 0; k < top_k; ++k) {
    if (ids[k] >= 0) largest = std::max(largest, logits[k]);
  }
  double sum = 0;
  for (int64_t k = 0; k < top_k; ++k) {
    if (ids[k] >= 0) sum += (*out)[k] = std::exp(logits[k] - largest);
  }
  for (int64_t k = 0; k < top_k; ++k) {
    if (ids[k] >= 0) (*out)[k] /= sum;
  }
}

void drop_by_top_p(double top_p, int64_t num_kept, const std::vector<double>& weights,
                   std::vector<int32_t>* by_weight, int32_t* ids) {
  double sum = 0;
  for (int64_t k = 0; k < num_kept; ++k) {
    (*by_weight)[k] = static_cast<int32_t>(k);
    sum += weights[k];
  }
  std::sort(by_weight->begin(), by_weight->begin() + num_kept, [&](int32_t a, int32_t b) {
    return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
  });
  double reached = 0;
  for (int64_t rank = 0; rank < num_kept; ++rank) {
    const int32_t slot = (*by_weight)[rank];
    if (rank > 0 && reached >= top_p * sum) {
      ids[slot] = -1;
    } else {
      reached += weights[slot];
    }
  }
}

double normalization_divisor(const SeRouting& routing, int64_t num_slots, const int32_t* ids,
                             const double* scores) {
  if (routing.normalization == SE_NORM_NONE) return 1;
  const bool powers = routing.normalization == SE_NORM_P;
  double sum = 0;
  for (int64_t k = 0; k < num_slots; ++k) {
    if (ids[k] >= 0) sum += powers ? std::pow(std::fabs(scores[k]), routing.norm_value) : scores[k];
  }
  if (powers) return std::pow(sum, 1 / routing.norm_value);
  return routing.normalization == SE_NORM_FLOOR ? std::max(sum, routing.norm_value)
                                                : sum + routing.norm_value;
}

void finish_weights(const SeRouting& routing, bool normalize, int64_t num_slots, const int32_t* ids,
                    const double* scores, float* weights) {
  const double divisor = normalize ? normalization_divisor(routing, num_slots, ids, scores) : 1;
  for (int64_t k = 0; k < num_slots; ++k) {
    if (ids[k] < 0) {
      weights[k] = 0;
      continue;
    }
    double weight = scores[k] / divisor * routing.scaling_factor;
    if (routing.per_expert_scale != nullptr) weight *= routing.per_expert_scale[ids[k]];
    weights[k] = static_cast<float>(weight);
  }
}

}  // namespace sparse_experts::cpu
