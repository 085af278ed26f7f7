// Checks of contents before anything reads through them.
//
// Every thread looks at elements in rising order and stops at its first that breaks the rule; a
// warp takes the least of its lanes; one atomic minimum per warp with a fault. The least of all
// does not depend on what runs first. Faults are never negative, so the minimum may be taken
// unsigned.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/warp.cuh"

namespace sparse_experts::cuda {

constexpr int kCheckThreads = 256;
constexpr int64_t kNoFault = INT64_MAX;

__device__ __forceinline__ void leave_least(int64_t found, int64_t* fault) {
  long long least = found;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const long long other = __shfl_xor_sync(kFullWarp, least, distance);
    if (other < least) least = other;
  }
  if (lane_index() == 0 && least != kNoFault) {
    atomicMin(reinterpret_cast<unsigned long long*>(fault), static_cast<unsigned long long>(least));
  }
}

// The least i < count of this thread's that `breaks`.
template <typename Breaks>
__device__ __forceinline__ void check_elements(int64_t count, int64_t* fault, Breaks breaks) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kCheckThreads;
  int64_t found = kNoFault;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCheckThreads + threadIdx.x; i < count;
       i += step) {
    if (breaks(i)) {
      found = i;
      break;
    }
  }
  leave_least(found, fault);
}

template <typename T>
__global__ void __launch_bounds__(kCheckThreads)
    check_range_kernel(const T* values, int64_t count, int32_t least, int32_t most,
                       int64_t* fault) {
  await_launches();
  check_elements(count, fault, [&](int64_t i) {
    const int32_t value = values[i];
    return value < least || value > most;
  });
}

static __global__ void __launch_bounds__(kCheckThreads)
    check_offsets_kernel(const int32_t* offsets, int64_t num_experts, int64_t num_slots,
                         int64_t* fault) {
  await_launches();
  check_elements(num_experts + 1, fault, [&](int64_t i) {
    const int64_t value = offsets[i];
    const bool falls = i == 0 ? value != 0 : value < offsets[i - 1];
    return falls || (i == num_experts && value > num_slots);
  });
}

static __global__ void __launch_bounds__(kCheckThreads)
    check_slots_kernel(const int32_t* slots, const int32_t* num_listed, int64_t num_slots,
                       int64_t* fault) {
  await_launches();
  const int64_t listed = *num_listed < num_slots ? *num_listed : num_slots;
  check_elements(listed, fault, [&](int64_t i) {
    const int64_t slot = slots[i];
    return slot < 0 || slot >= num_slots;
  });
}

}  // namespace sparse_experts::cuda
