// The rules of routing on single numbers and on the slots of one token, shared by selection and
// capacity. All in double, as in the CPU backend. On GPUs whose f64 rate is 1/2 of f32 (sm_80, 90)
// that costs 1 % of a layer at most; where it is 1/64 (sm_86, 89, 120) 4096 tokens of 256 experts
// take about 0.2 ms, which is the price of ids that agree with the CPU's.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "abi/backend.h"
#include "cuda/common/warp.cuh"
#include "cuda/ops/select.h"

namespace sparse_experts::cuda {

__device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }

__device__ __forceinline__ bool is_finite(float value) {
  return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
}

__device__ __forceinline__ double sigmoid(double z) { return 1.0 / (1.0 + exp(-z)); }

__device__ __forceinline__ double softplus(double z) {
  const double tail = log1p(exp(-fabs(z)));
  return z > 0 ? z + tail : tail;
}

__device__ __forceinline__ double softcapped(double z, double cap) {
  return cap > 0 ? cap * tanh(z / cap) : z;
}

// value^exponent for a value of 0 or more and an exponent above 0. Not pow: it is a call, which
// costs the whole kernel a stack; this is exact to some ulp, far below the f32 that is stored.
__device__ __forceinline__ double power(double value, double exponent) {
  return exponent == 1 ? value : exp(exponent * log(value));
}

// What a softmax over all experts needs to know of the row.
struct SoftmaxRow {
  double largest;
  double sum;
};

// What the expert is ranked by (before a bias) and, unless its weight comes from the chosen slots,
// weighted by.
__device__ __forceinline__ double score_of(int32_t scoring, double z, const SoftmaxRow& softmax) {
  switch (scoring) {
    case SE_SOFTMAX:
      return exp(z - softmax.largest) / softmax.sum;
    case SE_SIGMOID:
      return sigmoid(z);
    case SE_SQRT_SOFTPLUS:
      return sqrt(softplus(z));
    default:
      return z;
  }
}

// What normalisation divides the scores of the kept slots (id >= 0) by; 1 without normalisation.
// Summed in slot order. Not for SE_NORM_P.
__device__ __forceinline__ double summed_divisor(const SeRouting& routing, int32_t num_slots,
                                                 const int32_t* ids, const double* scores) {
  if (routing.normalization == SE_NORM_NONE) return 1;
  double sum = 0;
  for (int32_t k = 0; k < num_slots; ++k) {
    if (ids[k] >= 0) sum += scores[k];
  }
  return routing.normalization == SE_NORM_FLOOR ? max(sum, routing.norm_value)
                                                : sum + routing.norm_value;
}

// The same for every rule.
__device__ __forceinline__ double normalization_divisor(const SeRouting& routing, int32_t num_slots,
                                                        const int32_t* ids, const double* scores) {
  if (routing.normalization != SE_NORM_P) return summed_divisor(routing, num_slots, ids, scores);
  double sum = 0;
  for (int32_t k = 0; k < num_slots; ++k) {
    if (ids[k] >= 0) sum += power(fabs(scores[k]), routing.norm_value);
  }
  return power(sum, 1 / routing.norm_value);
}

// The weight of a slot; 0 for a dropped one. The only place where the factors apply.
__device__ __forceinline__ float finished_weight(const SeRouting& routing, int32_t id, double score,
                                                 double divisor) {
  if (id < 0) return 0.0f;
  double weight = score / divisor * routing.scaling_factor;
  if (routing.per_expert_scale != nullptr)
    weight *= static_cast<double>(routing.per_expert_scale[id]);
  return static_cast<float>(weight);
}

// How many of a token's slots the call keeps.
__device__ __forceinline__ int32_t slots_kept(const SelectKernelArgs& args, int64_t token) {
  const int64_t wanted = args.row_top_k != nullptr ? args.row_top_k[token] : args.call_top_k;
  return static_cast<int32_t>(max(int64_t{0}, min(wanted, args.routing.top_k)));
}

// A row with a logit that is not finite.
__device__ __forceinline__ void store_flagged(const SelectKernelArgs& args, int64_t token,
                                              int32_t rank, int32_t num_threads) {
  const int64_t top_k = args.routing.top_k;
  for (int64_t k = rank; k < top_k; k += num_threads) {
    args.topk_ids[token * top_k + k] = static_cast<int32_t>(k);
    args.topk_weights[token * top_k + k] = __uint_as_float(0x7fc00000u);
  }
  if (rank == 0) {
    args.non_finite[token] = 1;
    if (args.routing.capacity == SE_CAPACITY_BATCH) args.best_scores[token] = 0;
  }
}

}  // namespace sparse_experts::cuda
