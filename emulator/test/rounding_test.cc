// How tensor cores round, as an option: sums that only one of the models gets, worked out by hand, and
// random ones against the same rule in exact integers.
#include <simt/ptx.h>

#include <cmath>
#include <limits>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("rounding");

using namespace simt::ptx;
using simt::TensorCores;

// Row 0 of a times column 0 of b, plus c: 16 products. Everything else is zero.
template <bool kF16>
__global__ void dot_kernel(const uint16_t* a, const uint16_t* b, float c, float* out) {
  const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
  uint32_t left[4] = {}, right[2] = {};
  float sums[4] = {};
  if (g == 0) {
    for (unsigned half = 0; half < 2; ++half) {
      const unsigned k = 2 * t + 8 * half;
      left[2 * half] = a[k] | static_cast<uint32_t>(a[k + 1]) << 16;
      right[half] = b[k] | static_cast<uint32_t>(b[k + 1]) << 16;
    }
  }
  if (threadIdx.x == 0) sums[0] = c;
  if (kF16) {
    mma_m16n8k16_f16(sums, left, right);
  } else {
    mma_m16n8k16_bf16(sums, left, right);
  }
  if (threadIdx.x == 0) out[0] = sums[0];
}

float dot(TensorCores model, bool f16, const std::vector<uint16_t>& a,
          const std::vector<uint16_t>& b, float c) {
  simt::Options options;
  options.tensor_cores = model;
  const Scheduled scheduled(options);
  const Buffer<uint16_t> left(a), right(b);
  const Buffer<float> out(1);
  expect_clean(f16 ? run(dot_kernel<true>, 1, 32, 0, left.data(), right.data(), c, out.data())
                   : run(dot_kernel<false>, 1, 32, 0, left.data(), right.data(), c, out.data()),
               "a product");
  return out[0];
}

float dot_bf16(TensorCores model, const std::vector<float>& products, float c) {
  std::vector<uint16_t> a(16, 0), b(16, bf16_bits(1.0f));
  for (size_t i = 0; i < products.size(); ++i) a[i] = bf16_bits(products[i]);
  return dot(model, false, a, b, c);
}

TEST_CASE("sums that tell the models apart") {
  // 1 + 2^-24 + 2^-24: to nearest, one by one, each half of a last place is lost to the even 1. Cut
  // off at 24 or 25 bits below the greatest, both are kept and make a whole one.
  const std::vector<float> halves = {1.0f, 0x1p-24f, 0x1p-24f};
  CHECK(dot_bf16(TensorCores::kIeee, halves, 0) == 1.0f);
  CHECK(dot_bf16(TensorCores::kAmpere, halves, 0) == 1.0f + 0x1p-23f);
  CHECK(dot_bf16(TensorCores::kHopper, halves, 0) == 1.0f + 0x1p-23f);
  // Quarters of a last place: bit 25 is there on Hopper only.
  const std::vector<float> quarters = {1.0f, 0x1p-25f, 0x1p-25f, 0x1p-25f, 0x1p-25f};
  CHECK(dot_bf16(TensorCores::kAmpere, quarters, 0) == 1.0f);
  CHECK(dot_bf16(TensorCores::kHopper, quarters, 0) == 1.0f + 0x1p-23f);
  // Three quarters are cut off, not rounded up.
  const std::vector<float> three = {1.0f, 0x1p-24f, 0x1p-25f};
  CHECK(dot_bf16(TensorCores::kIeee, {1.0f, 0x1.8p-24f}, 0) == 1.0f + 0x1p-23f);
  CHECK(dot_bf16(TensorCores::kHopper, three, 0) == 1.0f);
  CHECK(dot_bf16(TensorCores::kHopper, {-1.0f, -0x1p-24f, -0x1p-25f}, 0) == -1.0f);
  // Two steps of eight on Ampere: 2^-24 in the second is aligned to the first's cut-off sum.
  std::vector<float> apart(16, 0.0f);
  apart[0] = 1.0f;
  apart[1] = apart[8] = 0x1p-24f;
  CHECK(dot_bf16(TensorCores::kAmpere, apart, 0) == 1.0f);
  CHECK(dot_bf16(TensorCores::kHopper, apart, 0) == 1.0f + 0x1p-23f);
  // A great term that cancels takes small ones with it.
  CHECK(dot_bf16(TensorCores::kIeee, {0x1p30f, -0x1p30f, 1.0f}, 0) == 1.0f);
  CHECK(dot_bf16(TensorCores::kHopper, {0x1p30f, -0x1p30f, 1.0f}, 0) == 0.0f);
  CHECK(dot_bf16(TensorCores::kHopper, {0x1p25f, -0x1p25f, 1.0f}, 0) == 1.0f);
  // The accumulator is a term like the others.
  CHECK(dot_bf16(TensorCores::kHopper, {0x1p-24f, 0x1p-24f}, 1.0f) == 1.0f + 0x1p-23f);
  CHECK(dot_bf16(TensorCores::kHopper, {1.0f, -1.0f}, 0x1p-26f) == 0.0f);
}

TEST_CASE("special values") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const TensorCores model : {TensorCores::kAmpere, TensorCores::kHopper}) {
    CHECK(dot_bf16(model, {kInfinity, 1.0f}, 0) == kInfinity);
    CHECK(dot_bf16(model, {1.0f}, -kInfinity) == -kInfinity);
    CHECK(std::isnan(dot_bf16(model, {kInfinity, -kInfinity}, 0)));
    CHECK(std::isnan(dot_bf16(model, {std::nanf("")}, 0)));
    CHECK(dot_bf16(model, {0x1p127f, 0x1p127f}, 0) == kInfinity);
    CHECK(dot_bf16(model, {}, -2.5f) == -2.5f);
    CHECK(dot_bf16(model, {0x1p-133f}, 0) == 0x1p-133f);  // a subnormal
  }
}

// The rule on doubles, which hold every value here exactly.
struct Exact {
  static double cut(double value, int last) {
    return std::ldexp(std::trunc(std::ldexp(value, -last)), last);
  }
  static float sum(const std::vector<double>& terms, const std::vector<int>& exponents, int kept) {
    int greatest = -1000;
    for (const int exponent : exponents) greatest = std::max(greatest, exponent);
    double total = 0;  // at most 17 terms of 28 bits: exact
    for (const double term : terms) total += cut(term, greatest - kept);
    if (total == 0) return 0;
    const int top = std::max(std::ilogb(total), -126);
    return static_cast<float>(cut(total, top - 23));
  }
};

double half_of(uint16_t bits, bool f16, int* exponent) {
  const int mantissa_bits = f16 ? 10 : 7;
  const int bias = f16 ? 15 : 127;
  const int field = (bits & 0x7fff) >> mantissa_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  *exponent = (field == 0 ? 1 : field) - bias;
  const double magnitude =
      std::ldexp(mantissa + (field == 0 ? 0 : 1 << mantissa_bits), *exponent - mantissa_bits);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST_CASE("random sums in exact arithmetic") {
  Inputs inputs(7);
  for (const bool f16 : {false, true}) {
    Every ampere, hopper;
    for (int round = 0; round < 300; ++round) {
      std::vector<uint16_t> a(16), b(16);
      const uint32_t spread = 1 + static_cast<uint32_t>(round) % 12;
      const auto draw = [&] {
        const uint32_t middle = f16 ? 15 : 127;
        const uint32_t field = middle - spread / 2 + inputs.below(spread);
        const uint32_t mantissa_bits = f16 ? 10 : 7;
        return static_cast<uint16_t>(inputs.below(2) << 15 | field << mantissa_bits |
                                     inputs.below(1u << mantissa_bits));
      };
      for (uint16_t& value : a) value = draw();
      for (uint16_t& value : b) value = draw();
      const float c = inputs.uniform() * 8;
      const auto expected = [&](int kept, size_t step) {
        float sum = c;
        for (size_t first = 0; first < 16; first += step) {
          std::vector<double> terms = {static_cast<double>(sum)};
          std::vector<int> exponents = {sum == 0 ? -126 : std::ilogb(sum)};
          for (size_t i = first; i < first + step; ++i) {
            int left, right;
            const double product = half_of(a[i], f16, &left) * half_of(b[i], f16, &right);
            terms.push_back(product);
            exponents.push_back(left + right);
          }
          sum = Exact::sum(terms, exponents, kept);
        }
        return sum;
      };
      ampere.equal(dot(TensorCores::kAmpere, f16, a, b, c), expected(24, 8));
      hopper.equal(dot(TensorCores::kHopper, f16, a, b, c), expected(25, 16));
    }
    ampere.check("Ampere's sums");
    hopper.check("Hopper's sums");
  }
}

TEST_SUITE_END();

}  // namespace
