// What wgmma computes, and where it finds and leaves elements.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <vector>

#include "conformance/cases_tensor.cuh"
#include "conformance90/kernels.cuh"
#include "conformance90/report.h"

namespace conformance90 {

using conformance::Operands;
using conformance::Random;

inline bool is_nan(uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

// The bits of mma.sync, and for small whole numbers those of a plain loop: any order of a sum gives them, so
// they prove where each element lies.
template <bool kBf16, int kColumns>
void check_product(const char* name, Operands operands, uint64_t seed) {
  Random random(seed);
  std::vector<uint16_t> a(kRows * kDepth);
  std::vector<uint16_t> b(kColumns * kDepth);
  for (uint16_t& bits : a)
    bits = static_cast<uint16_t>(conformance::operand<kBf16>(random, operands, true));
  for (uint16_t& bits : b)
    bits = static_cast<uint16_t>(conformance::operand<kBf16>(random, operands, false));
  if (operands == Operands::kCancelling) {
    // The second half of K takes the first half away again, but for a bit of some elements.
    for (size_t i = 0; i < b.size(); ++i)
      if (i % kDepth >= kDepth / 2) b[i] = b[i - kDepth / 2] ^ 0x8000u;
    for (size_t i = 0; i < a.size(); ++i)
      if (i % kDepth >= kDepth / 2) a[i] = a[i - kDepth / 2] ^ static_cast<uint16_t>(random.below(2));
  }
  const DeviceArray<uint4> a_on_device = upload_halves(a);
  const DeviceArray<uint4> b_on_device = upload_halves(b);
  const DeviceArray<float> wgmma(kRows * kColumns);
  const DeviceArray<float> mma(kRows * kColumns);
  run(product_kernel<kBf16, kColumns>, 1, 128, product_bytes(kColumns, 0), a_on_device.data(),
      b_on_device.data(), 0u, wgmma.data(), mma.data());
  const std::vector<float> out = wgmma.download();
  const std::vector<float> expected = mma.download();
  size_t other = 0;
  size_t wrong = 0;
  const conformance::model::Format format =
      kBf16 ? conformance::model::kBf16 : conformance::model::kF16;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint32_t got = conformance::model::bits_of(out[i]);
    const uint32_t wanted = conformance::model::bits_of(expected[i]);
    if (got != wanted && !(is_nan(got) && is_nan(wanted))) ++other;
    if (operands != Operands::kWhole) continue;
    double sum = 0;
    for (size_t k = 0; k < kDepth; ++k)
      sum += conformance::model::value_of(format, a[i / kColumns * kDepth + k]) *
             conformance::model::value_of(format, b[i % kColumns * kDepth + k]);
    if (static_cast<double>(out[i]) != sum) ++wrong;
  }
  report(other == 0 && wrong == 0,
         std::string("wgmma ") + (kBf16 ? "bf16" : "f16") + " n" + std::to_string(kColumns) + " " +
             name + ": " + std::to_string(other) + " of " + std::to_string(out.size()) +
             " have other bits than mma.sync, " + std::to_string(wrong) + " are wrong");
}

template <bool kBf16, int kColumns>
void check_products() {
  check_product<kBf16, kColumns>("whole numbers", Operands::kWhole, 1);
  check_product<kBf16, kColumns>("random", Operands::kRandom, 2);
  check_product<kBf16, kColumns>("cancellation", Operands::kCancelling, 3);
  check_product<kBf16, kColumns>("magnitudes", Operands::kMagnitudes, 4);
  check_product<kBf16, kColumns>("inf and NaN", Operands::kSpecial, 5);
}

inline void products_of_wgmma() {
  check_products<true, 64>();
  check_products<true, 128>();
  check_products<true, 192>();
  check_products<true, 256>();
  check_products<false, 64>();
  check_products<false, 256>();
}

// One element of A in each row, at a place of its own: the output (r, n) is then B's row n at that place, and
// nothing else. B holds its row's number, or its column's.
template <int kColumns>
void check_fragments(uint32_t shift) {
  Random random(kColumns + shift);
  std::vector<int> place(kRows);
  for (int row = 0; row < kRows; ++row) place[static_cast<size_t>(row)] = row;
  for (size_t row = kRows - 1; row > 0; --row)
    std::swap(place[row], place[static_cast<size_t>(random.below(static_cast<int64_t>(row) + 1))]);
  const auto number = [](int value) {
    return static_cast<uint16_t>(conformance::model::round_to(conformance::model::kBf16, value));
  };
  std::vector<uint16_t> a(kRows * kDepth, 0);
  for (size_t row = 0; row < kRows; ++row)
    a[row * kDepth + static_cast<size_t>(place[row])] = number(1);
  size_t wrong = 0;
  for (const bool by_row : {true, false}) {
    std::vector<uint16_t> b(kColumns * kDepth);
    for (int n = 0; n < kColumns; ++n) {
      for (int k = 0; k < kDepth; ++k)
        b[static_cast<size_t>(n * kDepth + k)] = number(by_row ? n : k);
    }
    const DeviceArray<uint4> a_on_device = upload_halves(a);
    const DeviceArray<uint4> b_on_device = upload_halves(b);
    const DeviceArray<float> wgmma(kRows * kColumns);
    const DeviceArray<float> mma(kRows * kColumns);
    run(product_kernel<true, kColumns>, 1, 128, product_bytes(kColumns, shift), a_on_device.data(),
        b_on_device.data(), shift, wgmma.data(), mma.data());
    const std::vector<float> out = wgmma.download();
    for (int row = 0; row < kRows; ++row) {
      for (int n = 0; n < kColumns; ++n) {
        const int expected = by_row ? n : place[static_cast<size_t>(row)];
        if (out[static_cast<size_t>(row * kColumns + n)] != static_cast<float>(expected)) ++wrong;
      }
    }
  }
  report(wrong == 0, "fragments of n" + std::to_string(kColumns) + ", operands " +
                         std::to_string(shift) + " KiB further: " + std::to_string(wrong) +
                         " elements are wrong");
}

inline void fragments_of_wgmma() {
  for (const uint32_t shift : {0u, 1u, 3u}) {
    check_fragments<64>(shift);
    check_fragments<128>(shift);
    check_fragments<192>(shift);
    check_fragments<256>(shift);
  }
}

}  // namespace conformance90
