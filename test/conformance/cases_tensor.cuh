// Cases of ldmatrix and mma.
//
// The bound of an mma entry: 2^-19 of the sum of its terms' magnitudes. Tensor cores multiply
// exactly, but align the terms to the greatest and cut off what is below about 2^-23 of it, and in
// several steps; seventeen such losses stay below the bound, and so does a sum in any order. One
// wrong element is off by 2^-4 of it. Entries of the whole-number case are exact in any order.
#pragma once

#include "conformance/case_builder.cuh"

namespace conformance {

template <int kMatrices>
Case ldmatrix_case(const char* name, uint64_t seed, bool aliased) {
  Case one;
  one.name = name;
  one.seed = seed;
  Random random(seed);
  const std::vector<uint32_t> tile = random_words(random, kTileBytes / 4);
  std::vector<uint32_t> rows(kTileBytes / 16);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint32_t>(16 * i);
  for (size_t i = rows.size() - 1; i > 0; --i) {
    std::swap(rows[i], rows[static_cast<size_t>(random.below(static_cast<int64_t>(i) + 1))]);
  }
  std::vector<uint32_t> offsets(rows.begin(), rows.begin() + 32);
  if (aliased) {
    for (size_t i = 0; i < 32; i += 3) offsets[i] = offsets[(i + 7) % 32];
  }
  std::vector<uint4> vectors(kTileBytes / 16);
  std::memcpy(vectors.data(), tile.data(), kTileBytes);
  const DeviceArray<uint32_t> out(32 * kMatrices);
  const DeviceArray<uint4> tile_on_device(vectors);
  const DeviceArray<uint32_t> offsets_on_device(offsets);
  one.out = run_kernel(name, ldmatrix_kernel<kMatrices>, 1, 32, out, tile_on_device.data(),
                       offsets_on_device.data(), out.data());
  one.model = model::ldmatrix(tile, offsets, kMatrices);
  return one;
}

enum class Operands { kWhole, kRandom, kCancelling, kMagnitudes, kDenormal, kSpecial, kOverflow };

template <bool kIsBf16>
uint32_t operand(Random& random, Operands operands, bool left) {
  const model::Format format = kIsBf16 ? model::kBf16 : model::kF16;
  const uint32_t sign = random.below(2) != 0 ? 0x8000u : 0u;
  switch (operands) {
    case Operands::kWhole:
      return model::round_to(format, static_cast<double>(random.below(17) - 8));
    case Operands::kMagnitudes: {
      // Exponents far apart; products stay within f32.
      const int exponent = static_cast<int>(random.below(kIsBf16 ? 61 : 29)) - (kIsBf16 ? 30 : 14);
      return model::round_to(format, std::ldexp(1 + random.uniform(), exponent)) | sign;
    }
    case Operands::kDenormal:
      // Denormals on the left, greater numbers on the right.
      if (left) {
        return static_cast<uint32_t>(random.below((int64_t{1} << format.mantissa_bits) - 1) + 1) |
               sign;
      }
      return model::round_to(format, std::ldexp(1 + random.uniform(), kIsBf16 ? 100 : 10)) | sign;
    case Operands::kSpecial: {
      const uint32_t infinity = ((1u << format.exponent_bits) - 1u) << format.mantissa_bits;
      const int64_t draw = random.below(120);
      if (draw == 0) return infinity | sign;
      if (draw == 1) return infinity | sign | 1u << (format.mantissa_bits - 1);  // quiet
      if (draw == 2) return sign;
      return model::round_to(format, random.normal());
    }
    case Operands::kOverflow:
      return model::round_to(format, std::ldexp(1 + random.uniform(), kIsBf16 ? 66 : 14));
    default:
      return model::round_to(format, random.normal());
  }
}

template <bool kIsBf16>
Case mma_case(const char* name, uint64_t seed, Operands operands) {
  constexpr int kProducts = 8;
  constexpr model::Format kFormat = kIsBf16 ? model::kBf16 : model::kF16;
  Case one;
  one.name = name;
  one.seed = seed;
  one.kind = operands == Operands::kWhole ? Kind::kExact : Kind::kFloat;
  Random random(seed);
  std::vector<uint32_t> a(kProducts * 32 * 4);
  std::vector<uint32_t> b(kProducts * 32 * 2);
  std::vector<float> c(kProducts * 32 * 4);
  for (uint32_t& word : a) {
    word = operand<kIsBf16>(random, operands, true) | operand<kIsBf16>(random, operands, true)
                                                          << 16;
  }
  for (uint32_t& word : b) {
    word = operand<kIsBf16>(random, operands, false) | operand<kIsBf16>(random, operands, false)
                                                           << 16;
  }
  for (float& value : c) {
    switch (operands) {
      case Operands::kWhole:
        value = static_cast<float>(random.below(2001) - 1000);
        break;
      case Operands::kCancelling:
        value = static_cast<float>(random.normal() * 1e-3);
        break;
      case Operands::kDenormal:
        value = kIsBf16 ? static_cast<float>(random.normal() * 0x1p-30) : 0.0f;
        break;
      case Operands::kSpecial:
        value = random.below(200) == 0 ? -INFINITY : static_cast<float>(random.normal());
        break;
      case Operands::kOverflow:
        value = kIsBf16 ? 1.0f : 3e38f;
        break;
      default:
        value = static_cast<float>(random.normal());
    }
  }
  if (operands == Operands::kCancelling) {
    // The second half of k takes the first half away again, but for one bit of some elements.
    for (size_t lane = 0; lane < kProducts * 32; ++lane) {
      a[4 * lane + 2] = a[4 * lane] ^ (random.below(2) != 0 ? 1u : 0u);
      a[4 * lane + 3] = a[4 * lane + 1] ^ (random.below(2) != 0 ? 1u << 16 : 0u);
      b[2 * lane + 1] = b[2 * lane] ^ 0x80008000u;
    }
  }
  const DeviceArray<float> out(kProducts * 32 * 4);
  const DeviceArray<uint32_t> a_on_device(a);
  const DeviceArray<uint32_t> b_on_device(b);
  const DeviceArray<float> c_on_device(c);
  const std::vector<float> d =
      run_kernel(name, mma_kernel<kIsBf16>, kProducts, 32, out, a_on_device.data(),
                 b_on_device.data(), c_on_device.data(), out.data());
  one.out.resize(d.size());
  std::memcpy(one.out.data(), d.data(), d.size() * 4);
  one.model.resize(d.size());
  one.bounds.resize(one.kind == Kind::kExact ? 0 : d.size());
  for (int p = 0; p < kProducts; ++p) {
    model::Product product;
    product.unpack(kFormat, a.data() + 128 * p, b.data() + 64 * p, c.data() + 128 * p);
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        double value = 0;
        double weight = 0;
        product.entry(row, column, &value, &weight);
        const size_t at = static_cast<size_t>(128 * p) + model::Product::register_of(row, column);
        const double most = static_cast<double>(std::numeric_limits<float>::max());
        const float narrow = value > most    ? INFINITY
                             : value < -most ? -INFINITY
                                             : static_cast<float>(value);
        one.model[at] = model::bits_of(narrow);
        if (one.kind == Kind::kFloat) {
          one.bounds[at] = std::isfinite(weight) ? weight * 0x1p-19 + 0x1p-126 : 0;
        }
      }
    }
  }
  return one;
}

inline void add_tensor_cases(std::vector<Case>& cases) {
  cases.push_back(ldmatrix_case<4>("ldmatrix_x4/rows", 11, false));
  cases.push_back(ldmatrix_case<4>("ldmatrix_x4/aliased_rows", 12, true));
  cases.push_back(ldmatrix_case<2>("ldmatrix_x2/rows", 13, false));
  cases.push_back(ldmatrix_case<2>("ldmatrix_x2/aliased_rows", 14, true));
  cases.push_back(mma_case<true>("mma_bf16/whole_numbers", 21, Operands::kWhole));
  cases.push_back(mma_case<true>("mma_bf16/random", 22, Operands::kRandom));
  cases.push_back(mma_case<true>("mma_bf16/cancellation", 23, Operands::kCancelling));
  cases.push_back(mma_case<true>("mma_bf16/magnitudes", 24, Operands::kMagnitudes));
  cases.push_back(mma_case<true>("mma_bf16/denormals", 25, Operands::kDenormal));
  cases.push_back(mma_case<true>("mma_bf16/inf_nan", 26, Operands::kSpecial));
  cases.push_back(mma_case<true>("mma_bf16/overflow", 27, Operands::kOverflow));
  cases.push_back(mma_case<false>("mma_f16/whole_numbers", 31, Operands::kWhole));
  cases.push_back(mma_case<false>("mma_f16/random", 32, Operands::kRandom));
  cases.push_back(mma_case<false>("mma_f16/cancellation", 33, Operands::kCancelling));
  cases.push_back(mma_case<false>("mma_f16/magnitudes", 34, Operands::kMagnitudes));
  cases.push_back(mma_case<false>("mma_f16/denormals", 35, Operands::kDenormal));
  cases.push_back(mma_case<false>("mma_f16/inf_nan", 36, Operands::kSpecial));
  cases.push_back(mma_case<false>("mma_f16/overflow", 37, Operands::kOverflow));
}

}  // namespace conformance
