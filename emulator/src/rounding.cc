// The models of TensorCores::kAmpere and kHopper, as published and validated against GPUs (Xie et
// al., "MMA-Sim", 2025): products are exact, all terms are aligned to the greatest exponent and cut off
// a fixed number of bits below it, summed exactly, and the sum is cut off to f32. A product's
// exponent is the sum of its factors', its significand in [1, 4) is not normalised. No order of the
// terms enters.
#include "rounding.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace simt::detail {
namespace {

constexpr int kFactorBits = 11;  // of a factor's significand, at most
constexpr int kSumBits = 24;

// |value| = significand * 2^(exponent - bits), significand below 2^(bits + 1).
struct Term {
  int64_t significand;  // signed
  int exponent;
  int bits;
};

Term split(float value, int least_exponent, int bits) {
  if (value == 0) return {0, least_exponent, bits};
  int exponent = std::ilogb(value);
  if (exponent < least_exponent) exponent = least_exponent;
  return {static_cast<int64_t>(std::ldexp(static_cast<double>(value), bits - exponent)), exponent,
          bits};
}

// In units of 2^(greatest - kept), cut off towards zero.
int64_t aligned(const Term& term, int greatest, int kept) {
  const int shift = term.exponent - term.bits - (greatest - kept);
  if (shift >= 0) return term.significand * (int64_t{1} << shift);
  if (shift < -62) return 0;
  const int64_t magnitude = term.significand < 0 ? -term.significand : term.significand;
  return term.significand < 0 ? -(magnitude >> -shift) : magnitude >> -shift;
}

// units * 2^exponent, cut off to f32.
float cut_off(int64_t units, int exponent) {
  if (units == 0) return 0;
  int64_t magnitude = units < 0 ? -units : units;
  const int top = 63 - __builtin_clzll(static_cast<unsigned long long>(magnitude)) + exponent;
  const int last =
      (top < -126 ? -126 : top) - (kSumBits - 1);  // exponent of the last bit of an f32
  if (last > exponent) {
    const int drop = last - exponent;
    magnitude = drop > 62 ? 0 : magnitude >> drop << drop;
  }
  return static_cast<float>(
      std::ldexp(static_cast<double>(units < 0 ? -magnitude : magnitude), exponent));
}

float fused_sum(const float* a, const float* b, unsigned stride, unsigned count, float c,
                int least_exponent, int kept) {
  Term terms[17];
  float special = c;  // finite unless a term is not
  int greatest = std::numeric_limits<int>::min();
  for (unsigned i = 0; i < count; ++i) {
    const float product = a[i] * b[i * stride];
    if (!std::isfinite(a[i]) || !std::isfinite(b[i * stride])) special += product;
    const Term left = split(std::isfinite(a[i]) ? a[i] : 0, least_exponent, kFactorBits - 1);
    const Term right =
        split(std::isfinite(b[i * stride]) ? b[i * stride] : 0, least_exponent, kFactorBits - 1);
    terms[i] = {left.significand * right.significand, left.exponent + right.exponent,
                left.bits + right.bits};
    if (terms[i].significand == 0) terms[i].exponent = -126;
    greatest = terms[i].exponent > greatest ? terms[i].exponent : greatest;
  }
  if (!std::isfinite(special)) {
    if (std::isinf(special)) return special;
    constexpr uint32_t kNan = 0x7fffffffu;
    float nan;
    std::memcpy(&nan, &kNan, sizeof nan);
    return nan;
  }
  terms[count] = split(c, -126, kSumBits - 1);
  greatest = terms[count].exponent > greatest ? terms[count].exponent : greatest;
  int64_t sum = 0;
  for (unsigned i = 0; i <= count; ++i) sum += aligned(terms[i], greatest, kept);
  return cut_off(sum, greatest - kept);
}

}  // namespace

float sum_of_products(TensorCores model, const float* a, const float* b, unsigned stride, float c,
                      int least_exponent) {
  switch (model) {
    case TensorCores::kIeee:
      for (unsigned k = 0; k < 16; ++k) c = c + b[k * stride] * a[k];
      return c;
    case TensorCores::kAmpere:
      c = fused_sum(a, b, stride, 8, c, least_exponent, 24);
      return fused_sum(a + 8, b + 8 * stride, stride, 8, c, least_exponent, 24);
    case TensorCores::kHopper:
      return fused_sum(a, b, stride, 16, c, least_exponent, 25);
  }
  return c;
}

}  // namespace simt::detail
