// Mathematics with CUDA's names where the C library has none: min and max of mixed arguments,
// reciprocal roots, operations with explicit rounding, conversions. All at full accuracy; a GPU's
// differ from the C library's by an ulp or two.
#pragma once

#include <math.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

// As in CUDA: the usual arithmetic conversions, and for floats the number wins over a NaN.
template <typename A, typename B>
inline std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value,
                        std::common_type_t<A, B>>
min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<T>::value) {
    return std::fmin(static_cast<T>(a), static_cast<T>(b));
  } else {
    return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
  }
}
template <typename A, typename B>
inline std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value,
                        std::common_type_t<A, B>>
max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<T>::value) {
    return std::fmax(static_cast<T>(a), static_cast<T>(b));
  } else {
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
  }
}

// glibc has these from 2.42 on.
#if !defined(__GLIBC__) || !__GLIBC_PREREQ(2, 42)
inline float rsqrtf(float value) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(value)));
}
inline double rsqrt(double value) { return 1.0 / std::sqrt(value); }
#endif
inline float rsqrt(float value) { return rsqrtf(value); }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float value) { return 1.0f / value; }
inline float __fsqrt_rn(float value) { return std::sqrt(value); }
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

// The approximate intrinsics are no model of the hardware's: here they are accurate.
inline float __expf(float value) { return std::exp(value); }
inline float __logf(float value) { return std::log(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float value) {
  return value != value ? 0.0f : std::fmin(std::fmax(value, 0.0f), 1.0f);
}

namespace simt::detail {
// Out of range goes to the nearest end and NaN to 0 (as the hardware does), where C++ has no value.
template <typename Integer>
inline Integer saturate(double value) {
  if (value != value) return 0;
  if (value <= static_cast<double>(std::numeric_limits<Integer>::min())) {
    return std::numeric_limits<Integer>::min();
  }
  if (value >= static_cast<double>(std::numeric_limits<Integer>::max())) {
    return std::numeric_limits<Integer>::max();
  }
  return static_cast<Integer>(value);
}
}  // namespace simt::detail

inline int __float2int_rn(float v) { return simt::detail::saturate<int>(std::nearbyint(v)); }
inline int __float2int_rz(float v) { return simt::detail::saturate<int>(std::trunc(v)); }
inline int __float2int_rd(float v) { return simt::detail::saturate<int>(std::floor(v)); }
inline int __float2int_ru(float v) { return simt::detail::saturate<int>(std::ceil(v)); }
inline unsigned __float2uint_rn(float v) {
  return simt::detail::saturate<unsigned>(std::nearbyint(v));
}
inline unsigned __float2uint_rz(float v) { return simt::detail::saturate<unsigned>(std::trunc(v)); }
inline float __int2float_rn(int value) { return static_cast<float>(value); }
inline float __uint2float_rn(unsigned value) { return static_cast<float>(value); }
inline float __double2float_rn(double value) { return static_cast<float>(value); }
