// Stored number formats as f32, and f32 as output dtypes: exact, scalar, to nearest even.
// NOTE: never include this from cpu/isa/ (see core/dtype.h).
#pragma once

#include <cstdint>
#include <cstring>

namespace sparse_experts {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "stored tensors are read as little-endian");

// Spans may begin at any byte of a file.
inline uint16_t load_u16(const uint8_t* from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline uint32_t load_u32(const uint8_t* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline float bits_to_f32(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t f32_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float decode_bf16(uint16_t bits) { return bits_to_f32(static_cast<uint32_t>(bits) << 16); }

inline float decode_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) return bits_to_f32(sign | 0x7f800000 | ((magnitude & 0x3ff) << 13));
  if (magnitude >= 0x400) return bits_to_f32(sign | ((magnitude << 13) + 0x38000000));
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return bits_to_f32(sign | f32_to_bits(value));
}

// e4m3fn: bias 7, no infinity, 0x7f and 0xff are NaN.
inline float decode_e4m3(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80) << 24;
  const uint32_t magnitude = code & 0x7f;
  if (magnitude == 0x7f) return bits_to_f32(sign | 0x7fc00000);
  if (magnitude >= 8) return bits_to_f32(sign | ((magnitude << 20) + (120u << 23)));
  return bits_to_f32(sign | f32_to_bits(static_cast<float>(magnitude) * 0x1p-9f));
}

// e5m2: the upper byte of an f16, infinities and NaN too.
inline float decode_e5m2(uint8_t code) { return decode_f16(static_cast<uint16_t>(code << 8)); }

// e8m0: 2^(code - 127); 255 is NaN, 0 a subnormal of f32.
inline float decode_e8m0(uint8_t code) {
  if (code == 255) return bits_to_f32(0x7fc00000);
  return bits_to_f32(code == 0 ? 0x00400000 : static_cast<uint32_t>(code) << 23);
}

// e2m1: bit 3 is the sign.
constexpr float kE2M1Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                   -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// NaN stays NaN.
inline uint16_t encode_bf16(float value) {
  const uint32_t bits = f32_to_bits(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40;
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

// Overflow gives infinity.
inline uint16_t encode_f16(float value) {
  const uint32_t bits = f32_to_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    // Adding 0.5 aligns the mantissa so that the addition rounds at the right bit.
    return static_cast<uint16_t>(sign | (f32_to_bits(bits_to_f32(magnitude) + 0.5f) - 0x3f000000));
  }
  return static_cast<uint16_t>(sign |
                               ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
}

}  // namespace sparse_experts
