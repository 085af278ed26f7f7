// Element types of the kernels and their conversions: bit patterns and f32, nothing else. Every
// rounding is to nearest even and stands in the source; no half arithmetic, so the emulator (which
// has no toolkit) and every architecture compute the same.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "abi/backend.h"

namespace sparse_experts::cuda {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

template <typename T>
struct DtypeOf;
template <>
struct DtypeOf<float> {
  static constexpr int32_t value = SE_F32;
};
template <>
struct DtypeOf<F16> {
  static constexpr int32_t value = SE_F16;
};
template <>
struct DtypeOf<Bf16> {
  static constexpr int32_t value = SE_BF16;
};

__host__ __device__ inline uint32_t float_bits(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

__host__ __device__ inline float bits_float(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

__host__ __device__ inline float to_float(float value) { return value; }

__host__ __device__ inline float to_float(Bf16 value) {
  return bits_float(static_cast<uint32_t>(value.bits) << 16);
}

__host__ __device__ inline float to_float(F16 value) {
#if defined(__CUDA_ARCH__)
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));  // ptx-ok: a conversion, no memory
  return wide;
#else
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Normal and subnormal alike: shift into f32 and correct the exponent's bias by a product, exact.
  return bits_float(sign | float_bits(bits_float(magnitude << 13) * 0x1p112f));
#endif
}

template <typename T>
__host__ __device__ inline T from_float(float value);

template <>
__host__ __device__ inline float from_float<float>(float value) {
  return value;
}

template <>
__host__ __device__ inline Bf16 from_float<Bf16>(float value) {
  const uint32_t bits = float_bits(value);
  // A NaN stays one (and quiet); everything else rounds to nearest even.
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

template <>
__host__ __device__ inline F16 from_float<F16>(float value) {
#if defined(__CUDA_ARCH__)
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));  // ptx-ok: a conversion, no memory
  return {bits};
#else
  const uint32_t bits = float_bits(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {0x7fffu};  // what the instruction gives for any NaN
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // subnormal: the sum's rounding is the wanted one
    const float sum = bits_float(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (float_bits(sum) - 0x3f000000u))};
  }
  const uint32_t odd = magnitude >> 13 & 1u;
  return {static_cast<uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13)};
#endif
}

}  // namespace sparse_experts::cuda
