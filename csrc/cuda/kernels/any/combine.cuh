// The end of a forward: weighted sums of a token's expert outputs and what the layer adds to them.
//
// One block per row, kCount columns per thread:
//   1. the row's flag is read once, before anything is written, so that every column sees the same
//   2. warp 0 lists the slots that count, in rising order, in shared memory
//   3. each thread adds its columns over that list, four rows under way at a time, then the shared
//      expert and the bias, and rounds once
// A row never spans two blocks: a block that finds an output not finite flags the row, and another
// block of the same row could see that flag too early. The sum of a column is one chain in rising
// slot order: no bit depends on the number of threads, the width of the accesses or other rows.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/ops/combine.h"

namespace sparse_experts::cuda {

constexpr int kCombineListed = 128;  // slots listed at a time
constexpr int kCombineMaxThreads = 1024;

// What a list entry says: an expert's row, or (below 0) the token's own input.
__device__ __forceinline__ int32_t identity_entry(int32_t slot) { return ~slot; }

// Warp 0 only: lists those of the slots [first, first + count) that count, returns how many.
__device__ __forceinline__ int32_t list_slots(const CombineKernelArgs& args, int64_t first,
                                              int32_t count, int32_t* entries, float* weights) {
  const int32_t lane = lane_index();
  int32_t listed = 0;
  for (int32_t base = 0; base < count; base += 32) {
    const int32_t k = base + lane;
    const int64_t slot = first + k;
    bool counts = k < count;
    bool identity = false;
    if (counts && args.topk_ids != nullptr) {
      const int32_t id = args.topk_ids[slot];
      identity = id >= args.num_experts;
      counts = id >= 0 && (identity || args.present == nullptr || args.present[id] != nullptr);
    }
    const unsigned votes = __ballot_sync(kFullWarp, counts);
    if (counts) {
      const int32_t position = listed + __popc(votes & lanes_below(lane));
      const int32_t number = static_cast<int32_t>(slot);
      entries[position] = identity ? identity_entry(number) : number;
      weights[position] = args.weights_applied && !identity ? 1.0f : args.topk_weights[slot];
    }
    listed += __popc(votes);
  }
  return listed;
}

template <int kCount>
__device__ __forceinline__ void add_listed(const CombineKernelArgs& args, const int32_t* entries,
                                           const float* weights, int32_t listed, int64_t row,
                                           int64_t column, float (&sums)[kCount]) {
  constexpr int kAhead = 4;
  for (int32_t base = 0; base < listed; base += kAhead) {
    float values[kAhead][kCount];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (base + a >= listed) break;
      const int32_t entry = entries[base + a];
      if (entry >= 0) {
        load_floats(args.expert_output + entry * args.hidden_size + column, values[a]);
      } else {
        load_floats_of(args.hidden, args.hidden_dtype, row * args.hidden_stride + column,
                       values[a]);
      }
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (base + a >= listed) break;
      const float weight = weights[base + a];
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[i] = fmaf(weight, values[a][i], sums[i]);
    }
  }
}

// What comes after the routed sum.
template <int kCount>
__device__ __forceinline__ void add_rest(const CombineKernelArgs& args, int64_t row, int64_t column,
                                         float coefficient, float (&sums)[kCount]) {
  float values[kCount];
  if (args.shared_output != nullptr) {
    load_floats(args.shared_output + row * args.hidden_size + column, values);
    const float rest = args.shared_gate_mode == SE_SHARED_MIX ? 1.0f - coefficient : 1.0f;
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] = fmaf(coefficient, values[i], rest * sums[i]);
  }
  if (args.output_bias != nullptr) {
    load_floats(args.output_bias + column, values);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] += values[i];
  }
}

template <typename Output, int kCount>
__global__ void __launch_bounds__(kCombineMaxThreads, 1) combine_kernel(CombineKernelArgs args) {
  await_launches();
  SE_SHARED(int32_t, entries, kCombineListed);
  SE_SHARED(float, weights, kCombineListed);
  SE_SHARED(int32_t, head, 2);  // the row's flag, the number of entries
  const int64_t step = static_cast<int64_t>(blockDim.x) * kCount;
  const int64_t top_k = args.projected == nullptr ? args.top_k : 0;
  for (int64_t row = blockIdx.x; row < args.num_tokens; row += gridDim.x) {
    if (threadIdx.x == 0) {
      head[0] = args.non_finite != nullptr && args.non_finite[row] != 0;
      head[1] = 0;
    }
    __syncthreads();
    const bool flagged = head[0] != 0;
    const float coefficient =
        args.shared_output != nullptr && args.shared_gate_mode != SE_SHARED_PLAIN
            ? args.shared_coefficients[row]
            : 1.0f;
    Output* out = static_cast<Output*>(args.output) + row * args.output_stride;
    bool finite = true;
    for (int64_t first = 0; first < args.hidden_size; first += step) {
      const int64_t column = first + static_cast<int64_t>(threadIdx.x) * kCount;
      const bool inside = column < args.hidden_size;
      float sums[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[i] = 0;
      for (int64_t k = 0; k < top_k && !flagged; k += kCombineListed) {
        // One list serves all columns where it holds all slots.
        if (first == 0 || top_k > kCombineListed) {
          __syncthreads();
          if (threadIdx.x < 32) {
            const int64_t left = top_k - k;
            const int32_t listed =
                list_slots(args, row * top_k + k,
                           static_cast<int32_t>(left < kCombineListed ? left : kCombineListed),
                           entries, weights);
            if (threadIdx.x == 0) head[1] = listed;
          }
          __syncthreads();
        }
        if (inside) add_listed(args, entries, weights, head[1], row, column, sums);
      }
      if (!inside) continue;
      if (flagged) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) sums[i] = bits_float(0x7fc00000u);
      } else {
        if (args.projected != nullptr)
          load_floats(args.projected + row * args.hidden_size + column, sums);
        add_rest(args, row, column, coefficient, sums);
#pragma unroll
        for (int i = 0; i < kCount; ++i) finite = is_finite_as<Output>(sums[i]) && finite;
      }
      store_floats(out + column, sums);
    }
    // The barrier also ends the reading of this row's entries and head.
    const bool any = __syncthreads_or(finite ? 0 : 1) != 0;
    if (threadIdx.x == 0 && any && args.non_finite != nullptr) args.non_finite[row] = 1;
  }
}

// ---- the shared expert's coefficient ----------------------------------------------------------

constexpr int kCoefficientThreads = 256;
constexpr int kCoefficientColumns = 4;  // contiguous columns of a thread

// One block per row. Thread i adds columns 4 (i + 256 n) … + 3 in rising order, then block_sum adds
// the threads. The scalar path (kVector false) reads one column at a
// time and adds in the same order: the same bits.
template <typename Input, bool kVector>
__global__ void __launch_bounds__(kCoefficientThreads)
    shared_coefficients_kernel(const Input* hidden, int64_t hidden_stride, const float* gate,
                               const float* bias, int64_t num_tokens, int64_t hidden_size,
                               float* coefficients) {
  await_launches();
  SE_SHARED(float, partials, 32);
  for (int64_t row = blockIdx.x; row < num_tokens; row += gridDim.x) {
    const Input* x = hidden + row * hidden_stride;
    float sum = 0;
    for (int64_t column = static_cast<int64_t>(threadIdx.x) * kCoefficientColumns;
         column < hidden_size; column += kCoefficientThreads * kCoefficientColumns) {
      if constexpr (kVector) {
        float values[kCoefficientColumns];
        float weights[kCoefficientColumns];
        load_floats(x + column, values);
        load_floats(gate + column, weights);
#pragma unroll
        for (int i = 0; i < kCoefficientColumns; ++i) sum = fmaf(values[i], weights[i], sum);
      } else {
        for (int64_t c = column; c < column + kCoefficientColumns && c < hidden_size; ++c)
          sum = fmaf(to_float(x[c]), gate[c], sum);
      }
    }
    float total = block_sum(sum, partials);
    if (threadIdx.x == 0) {
      if (bias != nullptr) total += bias[0];
      coefficients[row] = static_cast<float>(1.0 / (1.0 + exp(-static_cast<double>(total))));
    }
    __syncthreads();
  }
}

// ---- the slots that dispatch listed -----------------------------------------------------------

constexpr int kSlotThreads = 256;

static __global__ void __launch_bounds__(kSlotThreads)
    unlist_slots_kernel(int32_t* ids, int64_t num_slots) {
  await_launches();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < num_slots;
       i += step)
    ids[i] = -1;
}

static __global__ void __launch_bounds__(kSlotThreads)
    listed_slots_kernel(const int32_t* num_listed, const int32_t* sorted_slots, int64_t num_slots,
                        int32_t* ids) {
  await_launches();
  const int64_t listed = *num_listed < num_slots ? *num_listed : num_slots;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < listed;
       i += step) {
    const int64_t slot = sorted_slots[i];
    // Atomic: a list that a caller made may name a slot twice.
    if (slot >= 0 && slot < num_slots) atomicMax(&ids[slot], 0);
  }
}

}  // namespace sparse_experts::cuda
