// 16-bit elements as f32, for mma and wgmma.
#pragma once

#include <cstdint>
#include <cstring>

namespace simt::detail {

inline float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <bool kIsBf16>
float half_value(uint32_t bits) {
  if (kIsBf16) return float_from_bits(bits << 16);
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // The exponent's bias by an exact product, so that subnormals come out right.
  const float scaled = float_from_bits(magnitude << 13) * 0x1p112f;
  uint32_t result;
  std::memcpy(&result, &scaled, sizeof result);
  return float_from_bits(sign | result);
}

}  // namespace simt::detail
