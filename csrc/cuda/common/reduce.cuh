// Sums over a warp or a block in an order that the code fixes: what they give depends on the values
// and on nothing else.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/warp.cuh"

namespace sparse_experts::cuda {

// Butterfly: every lane gets the same bits, because a sum of two does not depend on their order.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, offset);
  }
  return value;
}

__device__ __forceinline__ int32_t warp_inclusive_scan(int32_t value, int32_t lane) {
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int32_t below = __shfl_up_sync(kFullWarp, value, static_cast<unsigned>(offset));
    if (lane >= offset) value += below;
  }
  return value;
}

// Sum of one value per thread over the block, the same in all threads. `partials` holds 32 values;
// it may be used again after the next barrier.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* partials) {
  const int32_t num_warps = static_cast<int32_t>(blockDim.x >> 5);
  value = warp_sum(value);
  if (lane_index() == 0) partials[warp_index()] = value;
  __syncthreads();
  T sum = partials[0];
  for (int32_t warp = 1; warp < num_warps; ++warp) sum += partials[warp];
  return sum;
}

// Exclusive prefix sum of one value per thread, and the sum of all. Whole block, whole warps.
// `partials` holds 33 values; ends with a barrier.
__device__ __forceinline__ int32_t block_exclusive_scan(int32_t value, int32_t* partials,
                                                        int32_t* sum) {
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  const int32_t num_warps = static_cast<int32_t>(blockDim.x >> 5);
  const int32_t inclusive = warp_inclusive_scan(value, lane);
  if (lane == 31) partials[warp] = inclusive;
  __syncthreads();
  if (warp == 0) {
    const int32_t mine = lane < num_warps ? partials[lane] : 0;
    const int32_t scanned = warp_inclusive_scan(mine, lane);
    __syncwarp();
    partials[lane] = scanned - mine;
    if (lane == 31) partials[32] = scanned;
  }
  __syncthreads();
  const int32_t before = partials[warp];
  *sum = partials[32];
  __syncthreads();
  return before + inclusive - value;
}

}  // namespace sparse_experts::cuda
