// Several elements at a time: 4, 8 or 16 bytes per access, widened to f32 and rounded back.
//
// kCount (1, 4 or 8) elements are contiguous. An access of more than one is aligned to its whole
// size, or to 16 bytes where it is larger: is_vector_aligned decides on the host.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/num.cuh"

namespace sparse_experts::cuda {

// Whether `pointer` and every row `stride` elements further may be read `count` elements at a time.
inline bool is_vector_aligned(const void* pointer, int64_t stride, int64_t element_bytes,
                              int64_t count) {
  const int64_t bytes = count * element_bytes < 16 ? count * element_bytes : 16;
  return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0 &&
         stride * element_bytes % bytes == 0;
}

// Two 16-bit elements; the first one sits in the low half of the word.
template <typename T>
__device__ __forceinline__ void unpack(uint32_t word, float& first, float& second) {
  first = to_float(T{static_cast<uint16_t>(word & 0xffffu)});
  second = to_float(T{static_cast<uint16_t>(word >> 16)});
}
template <typename T>
__device__ __forceinline__ uint32_t pack(float first, float second) {
  return static_cast<uint32_t>(from_float<T>(first).bits) |
         static_cast<uint32_t>(from_float<T>(second).bits) << 16;
}

template <typename T, int kCount>
__device__ __forceinline__ void load_floats(const T* from, float (&values)[kCount]) {
  static_assert(kCount == 1 || kCount == 4 || kCount == 8, "no access of this size");
  if constexpr (kCount == 1) {
    values[0] = to_float(*from);
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 quad = *reinterpret_cast<const float4*>(from + i);
      values[i] = quad.x;
      values[i + 1] = quad.y;
      values[i + 2] = quad.z;
      values[i + 3] = quad.w;
    }
  } else if constexpr (kCount == 4) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    unpack<T>(words.x, values[0], values[1]);
    unpack<T>(words.y, values[2], values[3]);
  } else {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    unpack<T>(words.x, values[0], values[1]);
    unpack<T>(words.y, values[2], values[3]);
    unpack<T>(words.z, values[4], values[5]);
    unpack<T>(words.w, values[6], values[7]);
  }
}

// The same from element `offset` of an array whose dtype only the launch knows.
template <int kCount>
__device__ __forceinline__ void load_floats_of(const void* array, int32_t dtype, int64_t offset,
                                               float (&values)[kCount]) {
  if (dtype == SE_F32) {
    load_floats(static_cast<const float*>(array) + offset, values);
  } else if (dtype == SE_F16) {
    load_floats(static_cast<const F16*>(array) + offset, values);
  } else {
    load_floats(static_cast<const Bf16*>(array) + offset, values);
  }
}

// Rounds to T.
template <typename T, int kCount>
__device__ __forceinline__ void store_floats(T* to, const float (&values)[kCount]) {
  static_assert(kCount == 1 || kCount == 4 || kCount == 8, "no access of this size");
  if constexpr (kCount == 1) {
    *to = from_float<T>(values[0]);
  } else if constexpr (sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      *reinterpret_cast<float4*>(to + i) =
          make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
    }
  } else if constexpr (kCount == 4) {
    *reinterpret_cast<uint2*>(to) =
        make_uint2(pack<T>(values[0], values[1]), pack<T>(values[2], values[3]));
  } else {
    *reinterpret_cast<uint4*>(to) =
        make_uint4(pack<T>(values[0], values[1]), pack<T>(values[2], values[3]),
                   pack<T>(values[4], values[5]), pack<T>(values[6], values[7]));
  }
}

// Whether a value is still finite once it is rounded to T.
template <typename T>
__device__ __forceinline__ bool is_finite_as(float value) {
  return (float_bits(to_float(from_float<T>(value))) & 0x7f800000u) != 0x7f800000u;
}

}  // namespace sparse_experts::cuda
