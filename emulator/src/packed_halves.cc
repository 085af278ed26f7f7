// fma on pairs of 16-bit elements: rounded once, to nearest even, subnormals kept.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "fragments.h"
#include "simt/ptx.h"

namespace simt::detail {
namespace {

constexpr uint32_t kNan = 0x7fffu;  // what the instructions give

// a * b + c as an f32 whose last bit is set where it is not exact: a rounding of it to 16 bits is then
// that of the exact value. The product of two 16-bit elements is exact in double.
float odd_sum(float a, float b, float c) {
  const double product = static_cast<double>(a) * static_cast<double>(b);
  const double addend = static_cast<double>(c);
  double sum = product + addend;
  if (!std::isfinite(sum)) return static_cast<float>(sum);
  const double of_addend = sum - product;
  const double lost = (product - (sum - of_addend)) + (addend - of_addend);
  uint64_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (lost != 0 && (bits & 1) == 0) sum = std::nextafter(sum, lost > 0 ? kInfinity : -kInfinity);
  float narrow = static_cast<float>(sum);
  if (!std::isfinite(narrow)) return narrow;  // far above what 16 bits hold
  const double rest = sum - static_cast<double>(narrow);
  uint32_t narrow_bits;
  std::memcpy(&narrow_bits, &narrow, sizeof narrow_bits);
  constexpr float kNarrowInfinity = std::numeric_limits<float>::infinity();
  if (rest != 0 && (narrow_bits & 1) == 0)
    narrow = std::nextafterf(narrow, rest > 0 ? kNarrowInfinity : -kNarrowInfinity);
  return narrow;
}

uint32_t round_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return kNan;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

uint32_t round_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return kNan;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {  // subnormal: in units of 2^-24
    const float units = float_from_bits(magnitude) * 0x1p24f;
    return sign | static_cast<uint32_t>(std::nearbyintf(units));
  }
  return sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
}

template <bool kIsBf16>
uint32_t fma_element(uint32_t a, uint32_t b, uint32_t c) {
  const float sum = odd_sum(half_value<kIsBf16>(a), half_value<kIsBf16>(b), half_value<kIsBf16>(c));
  return kIsBf16 ? round_bf16(sum) : round_f16(sum);
}

template <bool kIsBf16>
uint32_t fma_pair(uint32_t a, uint32_t b, uint32_t c) {
  return fma_element<kIsBf16>(a & 0xffffu, b & 0xffffu, c & 0xffffu) |
         fma_element<kIsBf16>(a >> 16, b >> 16, c >> 16) << 16;
}

}  // namespace

uint32_t fma_halves(MmaType type, uint32_t a, uint32_t b, uint32_t c) {
  return type == MmaType::kBf16 ? fma_pair<true>(a, b, c) : fma_pair<false>(a, b, c);
}

}  // namespace simt::detail
