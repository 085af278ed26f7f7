// Selection where routing is the plain softmax of most models: no group, bias, table, capacity or
// top_p, up to 256 experts. One warp per token, all of it in registers; the same operations in the
// same order as select.cuh, so the same bits.
//   1. lane l holds the logits of experts l, l + 32, …
//   2. their softmax in double, and a key in the order of the probabilities
//   3. top_k rounds of a warp's best; lane k keeps the k-th
//   4. cut to what the call keeps, normalise, scale, store
// A kernel of its own because of its size: at few tokens selection takes as long as its instructions
// take to arrive, and the general kernel has twenty times as many.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/kernels/any/router_splits.cuh"
#include "cuda/kernels/any/select_rules.cuh"
#include "cuda/ops/select.h"

namespace sparse_experts::cuda {

constexpr int kSoftmaxThreads = 128;
constexpr int64_t kSoftmaxSlots = 32;  // a lane each

// kPerLane: experts of a lane at most.
template <int kPerLane>
__global__ void __launch_bounds__(kSoftmaxThreads) select_softmax_kernel(SelectKernelArgs args) {
  await_launches();
  SE_SHARED(int32_t, all_ids, kSoftmaxThreads);
  SE_SHARED(double, all_kept, kSoftmaxThreads);
  const SeRouting& routing = args.routing;
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  const int64_t token = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + warp;
  if (token >= args.num_tokens) return;  // whole warps, and no barrier of the block
  const int32_t num_experts = static_cast<int32_t>(routing.num_experts);
  const int32_t top_k = static_cast<int32_t>(routing.top_k);

  int64_t element[kPerLane];
  int64_t expert[kPerLane];
  bool exists[kPerLane];
  float logits[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    expert[i] = lane + 32 * i;
    exists[i] = expert[i] < num_experts;
    element[i] = token * num_experts + expert[i];
  }
  load_logits(args.logits, args.num_tokens * num_experts, element, expert, exists, logits);
  bool finite = true;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) finite = finite && (!exists[i] || is_finite(logits[i]));
  if (__all_sync(kFullWarp, finite ? 1 : 0) == 0) {
    store_flagged(args, token, lane, 32);
    return;
  }

  uint64_t keys[kPerLane];
  Candidate best = no_candidate();
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const uint64_t key = exists[i] ? order_key(static_cast<double>(logits[i])) : kNoKey;
    if (key > best.key) best = {key, static_cast<uint32_t>(expert[i])};
  }
  const double largest = key_value(warp_best(best).key);
  double exponentials[kPerLane];
  double sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    exponentials[i] = exp(static_cast<double>(logits[i]) - largest);
    if (exists[i]) sum += exponentials[i];
  }
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    keys[i] = exists[i] ? order_key(exponentials[i] / sum) : kNoKey;
  }

  int32_t id = -1;
  double kept = 0;
#pragma unroll 1
  for (int32_t k = 0; k < top_k; ++k) {
    best = no_candidate();
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (keys[i] > best.key) best = {keys[i], static_cast<uint32_t>(expert[i])};
    }
    best = warp_best(best);
    if (lane == k) {
      id = static_cast<int32_t>(best.index);
      kept = key_value(best.key);
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (static_cast<uint32_t>(expert[i]) == best.index) keys[i] = kNoKey;
    }
  }

  if (lane >= slots_kept(args, token)) id = -1;
  int32_t* const ids = all_ids + 32 * warp;
  double* const scores = all_kept + 32 * warp;
  ids[lane] = id;
  scores[lane] = kept;
  __syncwarp();
  const double divisor = summed_divisor(routing, top_k, ids, scores);
  if (lane < top_k) {
    args.topk_ids[token * top_k + lane] = id;
    args.topk_weights[token * top_k + lane] = finished_weight(routing, id, kept, divisor);
  }
  if (lane == 0) args.non_finite[token] = 0;
}

}  // namespace sparse_experts::cuda
