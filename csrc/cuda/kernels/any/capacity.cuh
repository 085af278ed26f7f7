// Experts that hold a limited number of tokens: Switch Transformers per sequence, NLLB-MoE over the
// batch.
//   1. per sequence: where sequences begin; by priority: the order of the queue
//   2. one warp per expert walks through the slots in queue order, 32 at a time, counts its own by
//      ballots, and writes whether each has room: no atomics, no order but the queue's
//   3. one thread per token drops what has none and ends the weights
// A100, 4096 tokens, 128 experts, top-1: 128 windows of four loads at a time per warp, about 15 us.
// The queue by priority compares all pairs of tokens: 4096 tokens 16 M comparisons, about 10 us;
// 65536 tokens about 2 ms, 4 % of such a layer.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/kernels/any/select_rules.cuh"
#include "cuda/ops/capacity.h"

namespace sparse_experts::cuda {

constexpr int kCapacityWarps = 4;    // experts per block
constexpr int kCapacityWindows = 4;  // windows of 32 slots whose loads are under way at once
constexpr int kTokenThreads = 128;   // kernels with one thread per token
constexpr int kSequenceThreads = 1024;

// One block. starts[t] = 1 where a sequence begins at token t.
__global__ void __launch_bounds__(kSequenceThreads)
    mark_sequences_kernel(CapacityKernelArgs args, uint8_t* starts) {
  await_launches();
  SE_SHARED(int32_t, partials, 33);
  for (int64_t t = threadIdx.x; t < args.num_tokens; t += kSequenceThreads) starts[t] = 0;
  __syncthreads();
  int64_t before = 0;
  for (int64_t first = 0; first < args.num_sequences; first += kSequenceThreads) {
    const int64_t sequence = first + threadIdx.x;
    const int32_t length = sequence < args.num_sequences ? args.sequence_lengths[sequence] : 0;
    int32_t sum = 0;
    const int64_t start = before + block_exclusive_scan(length, partials, &sum);
    if (length > 0 && start < args.num_tokens) starts[start] = 1;
    before += sum;
  }
}

// full[slot]: whether the slots of its sequence before it took all of its expert's room; written
// for slots with an expert in rows that are not flagged. `starts` may be null: one sequence.
__global__ void __launch_bounds__(32 * kCapacityWarps)
    queue_per_sequence_kernel(CapacityKernelArgs args, const uint8_t* starts, uint8_t* full) {
  await_launches();
  const int32_t lane = lane_index();
  const int64_t expert = static_cast<int64_t>(blockIdx.x) * kCapacityWarps + warp_index();
  if (expert >= args.routing.num_experts) return;  // whole warps, no barriers
  const int64_t top_k = args.routing.top_k;
  const int64_t num_slots = args.num_tokens * top_k;
  int64_t queued = 0;  // of this expert in this sequence
  for (int64_t first = 0; first < num_slots; first += 32 * kCapacityWindows) {
    bool mine[kCapacityWindows];
    bool begins[kCapacityWindows];
#pragma unroll
    for (int w = 0; w < kCapacityWindows; ++w) {
      const int64_t slot = first + 32 * w + lane;
      const bool exists = slot < num_slots;
      const int64_t token = exists ? slot / top_k : 0;
      mine[w] = exists && args.topk_ids[slot] == expert && args.non_finite[token] == 0;
      begins[w] = exists && starts != nullptr && slot % top_k == 0 && starts[token] != 0;
    }
#pragma unroll
    for (int w = 0; w < kCapacityWindows; ++w) {
      const unsigned taken = __ballot_sync(kFullWarp, mine[w]);
      const unsigned resets = __ballot_sync(kFullWarp, begins[w]);
      // Of the lanes below, only those of the same sequence count.
      const unsigned earlier = resets & (lanes_below(lane) | 1u << lane);
      const int32_t from = earlier != 0 ? 31 - __clz(static_cast<int>(earlier)) : 0;
      const int64_t rank =
          (earlier != 0 ? 0 : queued) + __popc(taken & lanes_below(lane) & ~lanes_below(from));
      if (mine[w]) full[first + 32 * w + lane] = rank >= args.routing.expert_capacity ? 1 : 0;
      const int32_t last = resets != 0 ? 31 - __clz(static_cast<int>(resets)) : 0;
      queued = (resets != 0 ? 0 : queued) + __popc(taken & ~lanes_below(last));
    }
  }
}

// Drops the slots that found no room; the weights of the others stand.
__global__ void __launch_bounds__(kTokenThreads)
    drop_slots_kernel(CapacityKernelArgs args, const uint8_t* full) {
  await_launches();
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kTokenThreads + threadIdx.x;
  if (token >= args.num_tokens || args.non_finite[token] != 0) return;
  const int64_t top_k = args.routing.top_k;
  for (int64_t slot = token * top_k; slot < (token + 1) * top_k; ++slot) {
    if (args.topk_ids[slot] < 0 || full[slot] == 0) continue;
    args.topk_ids[slot] = -1;
    args.topk_weights[slot] = 0.0f;
  }
}

// order[i]: the token that is i-th in the queue, by falling best score, ties to the earlier token.
__global__ void __launch_bounds__(kTokenThreads)
    queue_order_kernel(CapacityKernelArgs args, int32_t* order) {
  await_launches();
  SE_SHARED(uint64_t, keys, kTokenThreads);
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kTokenThreads + threadIdx.x;
  const auto key_of = [&](int64_t t) {
    // Flagged rows take no place in any queue: any fixed score will do.
    return args.non_finite[t] != 0 ? order_key(0.0) : order_key(args.best_scores[t]);
  };
  const uint64_t key = token < args.num_tokens ? key_of(token) : kNoKey;
  int32_t ahead = 0;
  for (int64_t first = 0; first < args.num_tokens; first += kTokenThreads) {
    const int32_t count =
        static_cast<int32_t>(min(static_cast<int64_t>(kTokenThreads), args.num_tokens - first));
    if (static_cast<int32_t>(threadIdx.x) < count) keys[threadIdx.x] = key_of(first + threadIdx.x);
    __syncthreads();
    // Of equal keys those of earlier tokens are ahead.
    const int64_t earlier = token - first;
#pragma unroll 4
    for (int32_t i = 0; i < count; ++i)
      ahead += keys[i] > key || (keys[i] == key && i < earlier) ? 1 : 0;
    __syncthreads();
  }
  if (token < args.num_tokens) order[ahead] = static_cast<int32_t>(token);
}

// Divides the scores by their norm while all slots still stand.
__global__ void __launch_bounds__(kTokenThreads) normalize_slots_kernel(CapacityKernelArgs args) {
  await_launches();
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kTokenThreads + threadIdx.x;
  if (token >= args.num_tokens || args.non_finite[token] != 0) return;
  const int32_t top_k = static_cast<int32_t>(args.routing.top_k);
  double* const scores = args.slot_scores + token * top_k;
  const double divisor =
      normalization_divisor(args.routing, top_k, args.topk_ids + token * top_k, scores);
  for (int32_t k = 0; k < top_k; ++k) scores[k] /= divisor;
}

// full[slot], where slot 0 of all tokens queues in order, then slot 1 behind them, and so on; a
// slot without room keeps its place. `order` may be null: tokens as they come.
__global__ void __launch_bounds__(32 * kCapacityWarps)
    queue_over_batch_kernel(CapacityKernelArgs args, int64_t capacity, const int32_t* order,
                            uint8_t* full) {
  await_launches();
  const int32_t lane = lane_index();
  const int64_t expert = static_cast<int64_t>(blockIdx.x) * kCapacityWarps + warp_index();
  if (expert >= args.routing.num_experts) return;  // whole warps, no barriers
  const int64_t top_k = args.routing.top_k;
  int64_t queued = 0;
  for (int64_t k = 0; k < top_k; ++k) {
    for (int64_t first = 0; first < args.num_tokens; first += 32 * kCapacityWindows) {
      int64_t slot[kCapacityWindows];
      bool mine[kCapacityWindows];
#pragma unroll
      for (int w = 0; w < kCapacityWindows; ++w) {
        const int64_t place = first + 32 * w + lane;
        const bool exists = place < args.num_tokens;
        const int64_t token = !exists ? 0 : order != nullptr ? order[place] : place;
        slot[w] = token * top_k + k;
        mine[w] = exists && args.topk_ids[slot[w]] == expert && args.non_finite[token] == 0;
      }
#pragma unroll
      for (int w = 0; w < kCapacityWindows; ++w) {
        const unsigned taken = __ballot_sync(kFullWarp, mine[w]);
        if (mine[w]) full[slot[w]] = queued + __popc(taken & lanes_below(lane)) >= capacity ? 1 : 0;
        queued += __popc(taken);
      }
    }
  }
}

// Drops the slots that found no room, and gives the others their weights.
__global__ void __launch_bounds__(kTokenThreads)
    finish_slots_kernel(CapacityKernelArgs args, const uint8_t* full) {
  await_launches();
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kTokenThreads + threadIdx.x;
  if (token >= args.num_tokens || args.non_finite[token] != 0) return;
  const SeRouting& routing = args.routing;
  const int32_t top_k = static_cast<int32_t>(routing.top_k);
  int32_t* const ids = args.topk_ids + token * top_k;
  const double* const scores = args.slot_scores + token * top_k;
  for (int32_t k = 0; k < top_k; ++k) {
    if (ids[k] >= 0 && full[token * top_k + k] != 0) ids[k] = -1;
  }
  const double divisor =
      routing.normalize_before_dropping ? 1.0 : normalization_divisor(routing, top_k, ids, scores);
  for (int32_t k = 0; k < top_k; ++k)
    args.topk_weights[token * top_k + k] = finished_weight(routing, ids[k], scores[k], divisor);
}

}  // namespace sparse_experts::cuda
