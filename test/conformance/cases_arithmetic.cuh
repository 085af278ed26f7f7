// Cases of plain arithmetic (exact by IEEE 754: nothing fused, flushed or approximated) and of the
// functions that a library approximates, with bounds in units of the last place: the greater of
// what CUDA's guide and the C library's manual state for the function, and one more for the
// reference's own rounding.
#pragma once

#include "conformance/case_builder.cuh"

namespace conformance {

// Magnitudes of all kinds, denormals included, no zeros: the sign of a zero is no matter here.
inline std::vector<float> wild_floats(Random& random, size_t count) {
  std::vector<float> values(count);
  for (float& value : values) {
    const int exponent =
        static_cast<int>(random.below(6) == 0 ? random.below(277) - 149 : random.below(20) - 10);
    value = static_cast<float>(
        std::ldexp((1 + random.uniform()) * (random.below(2) != 0 ? 1 : -1), exponent));
    if (value == 0) value = 0x1p-149f;
    if (random.below(200) == 0) value = INFINITY;
    if (random.below(200) == 0) value = NAN;
  }
  return values;
}

inline float narrowed(double value) {
  const double most = static_cast<double>(std::numeric_limits<float>::max());
  // The values between the greatest float and the middle to the next power round down.
  if (std::fabs(value) <= most) return static_cast<float>(value);
  if (std::isnan(value)) return NAN;
  if (std::fabs(value) < 0x1.ffffffp127) return value > 0 ? 0x1.fffffep127f : -0x1.fffffep127f;
  return value > 0 ? INFINITY : -INFINITY;
}

inline Case float_case(uint64_t seed) {
  constexpr int32_t kCount = 2048;
  Case one;
  one.name = "arithmetic/float";
  one.seed = seed;
  Random random(seed);
  const std::vector<float> a = wild_floats(random, kCount);
  const std::vector<float> b = wild_floats(random, kCount);
  std::vector<float> c = wild_floats(random, kCount);
  for (size_t i = 0; i < kCount; i += 2) {
    // Where fusing shows: a sum that takes the product's rounded value away.
    const volatile float product = a[i] * b[i];
    c[i] = -product;
  }
  const DeviceArray<uint32_t> out(kFloatWords * kCount);
  const DeviceArray<float> a_on_device(a);
  const DeviceArray<float> b_on_device(b);
  const DeviceArray<float> c_on_device(c);
  one.out = run_kernel("arithmetic/float", float_kernel, kCount / 128, 128, out, a_on_device.data(),
                       b_on_device.data(), c_on_device.data(), out.data(), kCount);
  one.model.resize(static_cast<size_t>(kFloatWords) * kCount);
  for (size_t i = 0; i < kCount; ++i) {
    const volatile float product = a[i] * b[i];
    const volatile double wide_product = static_cast<double>(a[i]) * 1.000000059;
    const bool a_counts = !std::isnan(a[i]);
    const bool b_counts = !std::isnan(b[i]);
    const float results[kFloatWords] = {
        product + c[i],
        std::fma(a[i], b[i], c[i]),
        a[i] / b[i],
        std::sqrt(std::fabs(a[i])),
        a[i] - b[i],
        product,
        !b_counts || (a_counts && a[i] < b[i]) ? a[i] : b[i],
        !b_counts || (a_counts && a[i] > b[i]) ? a[i] : b[i],
        narrowed(wide_product + static_cast<double>(c[i])),
    };
    for (size_t w = 0; w < kFloatWords; ++w) one.model[w * kCount + i] = model::bits_of(results[w]);
  }
  one_nan(one.out);
  one_nan(one.model);
  return one;
}

inline Case double_case(uint64_t seed) {
  constexpr int32_t kCount = 1024;
  Case one;
  one.name = "arithmetic/double";
  one.seed = seed;
  Random random(seed);
  std::vector<double> inputs[3];
  for (std::vector<double>& values : inputs) {
    values.resize(kCount);
    for (double& value : values) {
      const int64_t exponent =
          random.below(6) == 0 ? random.below(400) - 200 : random.below(20) - 10;
      value = std::ldexp((1 + random.uniform()) * (random.below(2) != 0 ? 1 : -1),
                         static_cast<int>(exponent));
    }
    values[0] = 0x1p-1074;
    values[1] = 0x1.8p-1060;
    values[2] = 0x1.fffffffffffffp1023;
  }
  for (size_t i = 4; i < kCount; i += 2) {
    const volatile double product = inputs[0][i] * inputs[1][i];
    inputs[2][i] = -product;
  }
  const DeviceArray<uint64_t> out(kDoubleWords * kCount);
  const DeviceArray<double> a(inputs[0]);
  const DeviceArray<double> b(inputs[1]);
  const DeviceArray<double> c(inputs[2]);
  const std::vector<uint64_t> results =
      run_kernel("arithmetic/double", double_kernel, kCount / 128, 128, out, a.data(), b.data(),
                 c.data(), out.data(), kCount);
  for (const uint64_t result : results) append(one.out, result);
  std::vector<uint64_t> expected(static_cast<size_t>(kDoubleWords) * kCount);
  for (size_t i = 0; i < kCount; ++i) {
    const double x = inputs[0][i];
    const double y = inputs[1][i];
    const double z = inputs[2][i];
    const volatile double product = x * y;
    expected[i] = model::bits_of(product + z);
    expected[kCount + i] = model::bits_of(std::fma(x, y, z));
    expected[2 * kCount + i] = model::bits_of(x / y);
    expected[3 * kCount + i] = model::bits_of(std::sqrt(std::fabs(x)));
    expected[4 * kCount + i] = model::bits_of(x - y);
    expected[5 * kCount + i] = model::bits_of(narrowed(x));
  }
  for (const uint64_t result : expected) append(one.model, result);
  return one;
}

// Pairs of 16-bit elements: all bit patterns but NaN's in a and c, and what the decoding of stored
// weights multiplies by in b. NaN is one pattern in the results.
template <bool kIsBf16>
Case fma_pairs_case(const char* name, uint64_t seed) {
  constexpr int32_t kCount = 4096;
  constexpr model::Format kFormat = kIsBf16 ? model::kBf16 : model::kF16;
  Case one;
  one.name = name;
  one.seed = seed;
  Random random(seed);
  const auto element = [&] {
    const uint32_t bits = static_cast<uint32_t>(random.below(1 << 16));
    return std::isnan(model::value_of(kFormat, bits)) ? 0x3c00u : bits;
  };
  const uint32_t factors[] = {kIsBf16 ? 0x3f80u : 0x3c00u, kIsBf16 ? 0xbf80u : 0xbc00u,
                              kIsBf16 ? 0x7e80u : 0x7400u, kIsBf16 ? 0x7b80u : 0x5c00u};
  std::vector<uint32_t> words[3];
  for (int32_t i = 0; i < kCount; ++i) {
    for (int half = 0; half < 2; ++half) {
      const uint32_t b = i % 2 == 0 ? element() : factors[random.below(4)];
      const uint32_t c = i % 4 == 1 ? 0x8000u : element();
      const uint32_t elements[3] = {element(), b, c};
      for (int j = 0; j < 3; ++j) {
        if (half == 0) words[j].push_back(0);
        words[j].back() |= elements[j] << (16 * half);
      }
    }
  }
  const DeviceArray<uint32_t> out(kCount);
  const DeviceArray<uint32_t> a(words[0]);
  const DeviceArray<uint32_t> b(words[1]);
  const DeviceArray<uint32_t> c(words[2]);
  one.out = run_kernel(name, fma_pairs_kernel<kIsBf16>, kCount / 128, 128, out, a.data(), b.data(),
                       c.data(), out.data(), kCount);
  for (int32_t i = 0; i < kCount; ++i) {
    uint32_t word = 0;
    for (int half = 0; half < 2; ++half) {
      const auto value = [&](int j) {
        return static_cast<long double>(
            model::value_of(kFormat, words[j][static_cast<size_t>(i)] >> (16 * half) & 0xffffu));
      };
      const double sum = model::rounded_sum(value(0) * value(1), value(2));
      word |= (std::isnan(sum) ? 0x7fffu : model::round_to(kFormat, sum)) << (16 * half);
    }
    one.model.push_back(word);
  }
  return one;
}

// The distance between neighbours at a value, in a format with that many mantissa bits.
inline double last_place(double value, int mantissa_bits, int least_exponent) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const int exponent = std::max(std::ilogb(value), least_exponent);
  return std::ldexp(1.0, exponent - mantissa_bits);
}

template <Function kFunction, typename T>
Case function_case(const char* name, uint64_t seed, double ulps, double low, double high,
                   long double (*reference)(long double)) {
  constexpr bool kWide = sizeof(T) == 8;
  constexpr int32_t kCount = 1024;
  Case one;
  one.name = name;
  one.seed = seed;
  one.kind = kWide ? Kind::kDouble : Kind::kFloat;
  Random random(seed);
  std::vector<T> inputs(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    double value = low + (high - low) * random.uniform();
    // A third close to zero (or to the lower end), at all magnitudes.
    if (i % 3 == 0)
      value = std::max(low, 0.0) + std::ldexp(value, -static_cast<int>(random.below(40)));
    inputs[i] = static_cast<T>(value);
  }
  const DeviceArray<T> out(kCount);
  const DeviceArray<T> in(inputs);
  const std::vector<T> results = run_kernel(name, function_kernel<kFunction, T>, kCount / 128, 128,
                                            out, in.data(), out.data(), kCount);
  for (size_t i = 0; i < kCount; ++i) {
    const long double exact = reference(static_cast<long double>(inputs[i]));
    if constexpr (kWide) {
      append(one.out, model::bits_of(results[i]));
      append(one.model, model::bits_of(static_cast<double>(exact)));
      one.bounds.push_back(ulps * last_place(static_cast<double>(exact), 52, -1022));
    } else {
      const float nearest = narrowed(static_cast<double>(exact));
      one.out.push_back(model::bits_of(results[i]));
      one.model.push_back(model::bits_of(nearest));
      one.bounds.push_back(ulps * last_place(static_cast<double>(nearest), 23, -126));
    }
  }
  return one;
}

inline void add_arithmetic_cases(std::vector<Case>& cases) {
  cases.push_back(float_case(71));
  cases.push_back(double_case(72));
  cases.push_back(fma_pairs_case<true>("fma/bf16x2", 73));
  cases.push_back(fma_pairs_case<false>("fma/f16x2", 74));
  cases.push_back(function_case<Function::kExp, double>("exp", 81, 2, -700, 700, ::expl));
  cases.push_back(function_case<Function::kExp, double>("exp/small", 82, 2, -20, 0, ::expl));
  cases.push_back(function_case<Function::kLog, double>("log", 83, 2, 1e-6, 1e6, ::logl));
  cases.push_back(function_case<Function::kLog1p, double>("log1p", 84, 2, 0, 1, ::log1pl));
  cases.push_back(function_case<Function::kTanh, double>("tanh", 85, 3, -20, 20, ::tanhl));
  cases.push_back(function_case<Function::kExpf, float>("expf", 86, 2, -87, 88, ::expl));
  cases.push_back(function_case<Function::kErfcf, float>("erfcf", 87, 5, -4, 9, ::erfcl));
}

}  // namespace conformance
