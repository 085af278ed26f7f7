// wgmma: products of small whole numbers, which are exact, for many widths and both types, with
// operands laid out by the published rule; and every misuse of its asynchronous accumulators.
#include <simt/counters.h>
#include <simt/ptx.h>
#include <simt/ptx90.h>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("warp groups");

using namespace simt::ptx;
using simt::DefectKind;

constexpr int kDepth = 64;  // elements of a 128-byte row

// PTX ISA, "Matrix descriptor": address, stride between groups of 8 rows, swizzle (1: 128 bytes).
__device__ uint64_t descriptor(uint32_t address, uint32_t stride = 1024, uint64_t swizzle = 1) {
  return static_cast<uint64_t>(address >> 4) | static_cast<uint64_t>(stride >> 4) << 32 |
         swizzle << 62;
}

enum class Flaw {
  kNone,
  kNoWait,
  kEarlyRead,
  kWeakWait,
  kTouched,
  kNoWgmmaFence,
  kStride,
  kSwizzle,
  kAdvance,
  kOneWarpDiffers,
  kOneWarpMissing,
  kOperandOverwritten,
  kNoProxyFence,
  kNoCommit,
};

// out [64, kColumns] = 3 a b^T by two groups of two wgmmas each: the first overwrites the
// accumulators with a b^T of the first half of K, the rest add. a [64, 64], b [kColumns, 64].
template <bool kIsBf16, int kColumns>
__global__ void product_kernel(Flaw flaw, const uint16_t* a, const uint16_t* b, float* out) {
  unsigned char* tiles = simt::dynamic_shared();
  unsigned char* b_tile = tiles + 64 * 128;
  const unsigned t = threadIdx.x;
  const auto place = [](unsigned row, unsigned k) {
    // Chunks of 16 bytes change places within their row, by the row's number.
    return row * 128 + ((k / 8) ^ (row % 8)) * 16 + k % 8 * 2;
  };
  for (unsigned i = t; i < 64 * kDepth; i += blockDim.x) {
    *reinterpret_cast<uint16_t*>(tiles + place(i / kDepth, i % kDepth)) = a[i];
  }
  for (unsigned i = t; i < kColumns * kDepth; i += blockDim.x) {
    *reinterpret_cast<uint16_t*>(b_tile + place(i / kDepth, i % kDepth)) = b[i];
  }
  if (flaw != Flaw::kNoProxyFence) fence_proxy_async();
  __syncthreads();
  float sums[kColumns / 2];
  for (float& sum : sums) sum = 1000.0f;
  const uint32_t stride = flaw == Flaw::kStride ? 512 : 1024;
  const uint64_t swizzle = flaw == Flaw::kSwizzle ? 2 : 1;
  const uint32_t advance = flaw == Flaw::kAdvance ? 16 : 32;
  const unsigned warp = t / 32;
  const auto multiply = [&](uint32_t k, bool adds) {
    const uint32_t first = smem_u32(tiles) + k * advance;
    uint64_t left = descriptor(first, stride, swizzle);
    if (flaw == Flaw::kOneWarpDiffers && warp == 2) left += 2;
    const uint64_t right = descriptor(smem_u32(b_tile) + k * advance, stride, swizzle);
    if constexpr (kIsBf16) {
      wgmma_m64k16_bf16<kColumns>(sums, left, right, adds);
    } else {
      wgmma_m64k16_f16<kColumns>(sums, left, right, adds);
    }
  };
  if (flaw != Flaw::kNoWgmmaFence) wgmma_fence();
  multiply(0, false);
  if (flaw != Flaw::kOneWarpMissing || warp != 1) multiply(1, true);
  wgmma_commit();
  multiply(2, true);
  if (flaw == Flaw::kTouched && t == 77) sums[1] = 5.0f;
  multiply(3, true);
  if (flaw != Flaw::kNoCommit) wgmma_commit();
  if (flaw == Flaw::kOperandOverwritten) {
    wgmma_wait<1>();
    if (t == 5) *reinterpret_cast<uint16_t*>(b_tile + 4 * 16) ^= 0x3f80;
  }
  const bool early = flaw == Flaw::kEarlyRead || flaw == Flaw::kWeakWait;
  if (flaw == Flaw::kWeakWait) wgmma_wait<1>();
  if (flaw != Flaw::kNoWait && !early) wgmma_wait<0>();
  for (unsigned i = 0; i < kColumns / 2; ++i) {
    const unsigned row = warp * 16 + t % 32 / 4 + i / 2 % 2 * 8;
    const unsigned column = i / 4 * 8 + t % 4 * 2 + i % 2;
    out[row * kColumns + column] = sums[i];
  }
  if (early) wgmma_wait<0>();
}

uint16_t small_bits(int value, bool is_bf16) {
  if (is_bf16) return bf16_bits(static_cast<float>(value));
  if (value == 0) return 0;
  const unsigned magnitude = static_cast<unsigned>(value < 0 ? -value : value);
  const int exponent = 31 - __builtin_clz(magnitude);
  return static_cast<uint16_t>((value < 0 ? 0x8000u : 0u) |
                               static_cast<unsigned>(exponent + 15) << 10 |
                               ((magnitude << (10 - exponent)) & 0x3ffu));
}

template <bool kIsBf16, int kColumns>
Outcome run_product(Flaw flaw, bool* right, unsigned threads = 128) {
  Inputs inputs(kColumns);
  std::vector<int> a(64 * kDepth), b(kColumns * kDepth);
  const Buffer<uint16_t> a_bits(a.size()), b_bits(b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<int>(inputs.below(15)) - 7;
    a_bits[i] = small_bits(a[i], kIsBf16);
  }
  for (size_t i = 0; i < b.size(); ++i) {
    b[i] = static_cast<int>(inputs.below(15)) - 7;
    b_bits[i] = small_bits(b[i], kIsBf16);
  }
  const Buffer<float> out(64 * kColumns);
  const Outcome outcome =
      run(product_kernel<kIsBf16, kColumns>, 1, threads, (64 + kColumns + 64) * 128, flaw,
          a_bits.data(), b_bits.data(), out.data());
  *right = true;
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < kColumns; ++column) {
      int sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += a[row * kDepth + k] * b[column * kDepth + k];
      *right = *right && out[row * kColumns + column] == static_cast<float>(sum);
    }
  }
  return outcome;
}

template <bool kIsBf16, int kColumns>
void test_product() {
  bool right = false;
  simt::reset_counters();
  const std::string what = std::string(kIsBf16 ? "bf16 " : "f16 ") + std::to_string(kColumns);
  expect_clean(run_product<kIsBf16, kColumns>(Flaw::kNone, &right), what);
  CHECK_MESSAGE(right, what);
  CHECK(simt::counters().wgmma == 16);
  CHECK(simt::counters().wgmma_products == 64 * kDepth * kColumns);
}

TEST_CASE("products") {
  test_product<true, 8>();
  test_product<false, 24>();
  test_product<true, 96>();
  test_product<false, 160>();
  test_product<true, 256>();
  for (const simt::TensorCores model : {simt::TensorCores::kAmpere, simt::TensorCores::kHopper}) {
    simt::Options options;
    options.tensor_cores = model;
    const Scheduled scheduled(options);
    test_product<true, 32>();  // whole numbers are exact in every model
    test_product<false, 32>();
  }
}

TEST_CASE("misuse") {
  bool found_overwritten = false;
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    bool right = false;
    const auto outcome = [&](Flaw flaw) { return run_product<true, 16>(flaw, &right); };
    expect_clean(outcome(Flaw::kNone), setting.name);
    CHECK(right);
    expect_defect(outcome(Flaw::kNoWait), {DefectKind::kInFlight}, "no wait", "under way");
    expect_defect(outcome(Flaw::kTouched), {DefectKind::kInFlight}, "accumulators touched",
                  "accumulators were written");
    expect_defect(outcome(Flaw::kNoWgmmaFence), {DefectKind::kProtocol}, "no wgmma.fence", "fence");
    expect_defect(outcome(Flaw::kOneWarpDiffers), {DefectKind::kDivergence}, "another descriptor",
                  "disagree");
    expect_defect(outcome(Flaw::kOneWarpMissing), {DefectKind::kDivergence}, "a warp without one",
                  "disagree");
    expect_defect(outcome(Flaw::kNoCommit), {DefectKind::kInFlight}, "no commit", "under way");
    for (const Flaw flaw : {Flaw::kEarlyRead, Flaw::kWeakWait}) {
      expect_clean(outcome(flaw), "accumulators read early");
      CHECK_MESSAGE(!right, "accumulators read early are NaN");
    }
    for (const Flaw flaw : {Flaw::kStride, Flaw::kSwizzle, Flaw::kAdvance}) {
      const Outcome wrong = outcome(flaw);
      CHECK_MESSAGE((!wrong.clean || !right), "a wrong descriptor shows");
    }
    // Where another warp's wait came first, the operands had been read: only the race detector still
    // objects.
    const Outcome overwritten = outcome(Flaw::kOperandOverwritten);
    found_overwritten = found_overwritten || !overwritten.clean;
    CHECK_MESSAGE((!overwritten.clean || right), "overwritten operands, ", setting.name);
    expect_defect(run_product<true, 16>(Flaw::kNone, &right, 96), {DefectKind::kDivergence},
                  "three warps", "four warps");
    if (kRaceFlavour) {
      expect_defect(outcome(Flaw::kNoProxyFence), {DefectKind::kRace}, "operands not fenced",
                    "fence.proxy.async");
      expect_defect(overwritten, {DefectKind::kInFlight, DefectKind::kRace},
                    "operands overwritten");
    }
  }
  CHECK(found_overwritten);
}

// --- one thread speaks for its group -------------------------------------------------------------

// out = a (b_0 + b_1)^T: warp 4 fills one tile with b_0 and then b_1, as soon as one thread of the warp
// group says that the first product is done; the other warps may not have waited for it yet. Early:
// it says so before the wait.
constexpr int kOneColumns = 16;
__global__ void handover_kernel(bool early, const uint16_t* a, const uint16_t* b, float* out) {
  unsigned char* tiles = simt::dynamic_shared();
  unsigned char* b_tile = tiles + 64 * 128;
  auto* barriers = SIMT_STATIC_SHARED(uint64_t, 2);
  const uint32_t full = smem_u32(barriers), empty = smem_u32(barriers + 1);
  const unsigned t = threadIdx.x;
  const auto place = [](unsigned row, unsigned k) {
    return row * 128 + ((k / 8) ^ (row % 8)) * 16 + k % 8 * 2;
  };
  if (t == 0) {
    mbarrier_init(full, 32);
    mbarrier_init(empty, 1);
  }
  for (unsigned i = t; i < 64 * kDepth; i += blockDim.x) {
    *reinterpret_cast<uint16_t*>(tiles + place(i / kDepth, i % kDepth)) = a[i];
  }
  fence_proxy_async();
  __syncthreads();
  if (t >= 128) {
    for (uint32_t round = 0; round < 2; ++round) {
      mbarrier_wait(empty, round ^ 1u);
      for (unsigned i = t - 128; i < kOneColumns * kDepth; i += 32) {
        *reinterpret_cast<uint16_t*>(b_tile + place(i / kDepth, i % kDepth)) =
            b[round * kOneColumns * kDepth + i];
      }
      fence_proxy_async();
      mbarrier_arrive(full);
    }
    return;
  }
  float sums[kOneColumns / 2];
  for (uint32_t round = 0; round < 2; ++round) {
    mbarrier_wait(full, round);
    wgmma_fence();
    for (uint32_t k = 0; k < 4; ++k) {
      wgmma_m64k16_bf16<kOneColumns>(sums, descriptor(smem_u32(tiles) + k * 32),
                                     descriptor(smem_u32(b_tile) + k * 32), round + k > 0);
    }
    wgmma_commit();
    if (early && t == 0) mbarrier_arrive(empty);
    wgmma_wait<0>();
    if (!early && t == 0) mbarrier_arrive(empty);
  }
  for (unsigned i = 0; i < kOneColumns / 2; ++i) {
    const unsigned row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8;
    out[row * kOneColumns + i / 4 * 8 + t % 4 * 2 + i % 2] = sums[i];
  }
}

TEST_CASE("one thread speaks for its group") {
  constexpr int kCount = kOneColumns * kDepth;
  Inputs inputs(11);
  std::vector<int> a(64 * kDepth), b(2 * kCount);
  const Buffer<uint16_t> a_bits(a.size()), b_bits(b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<int>(inputs.below(15)) - 7;
    a_bits[i] = small_bits(a[i], true);
  }
  for (size_t i = 0; i < b.size(); ++i) {
    b[i] = static_cast<int>(inputs.below(15)) - 7;
    b_bits[i] = small_bits(b[i], true);
  }
  bool found_early = false;
  for (const Setting& setting : all_settings()) {
    const Scheduled scheduled(setting.schedule, setting.seed);
    const Buffer<float> out(64 * kOneColumns);
    const auto outcome = [&](bool early) {
      return run(handover_kernel, 1, 160, (64 + kOneColumns) * 128, early, a_bits.data(),
                 b_bits.data(), out.data());
    };
    expect_clean(outcome(false), setting.name);
    Every right;
    for (int row = 0; row < 64; ++row) {
      for (int column = 0; column < kOneColumns; ++column) {
        int sum = 0;
        for (int k = 0; k < kDepth; ++k) {
          const int at = column * kDepth + k;
          sum += a[row * kDepth + k] * (b[at] + b[kCount + at]);
        }
        right.equal(out[row * kOneColumns + column], static_cast<float>(sum));
      }
    }
    right.check(setting.name);
    found_early = !outcome(true).clean || found_early;
  }
  CHECK_MESSAGE(found_early, "a stage given back before its product is done");
}

// --- stmatrix ------------------------------------------------------------------------------------

template <int kMatrices, bool kTranspose>
__global__ void stmatrix_kernel(const uint32_t* registers, const int* order, uint16_t* out) {
  auto* tile = reinterpret_cast<uint16_t*>(simt::dynamic_shared());
  const unsigned t = threadIdx.x;
  uint32_t values[kMatrices];
  for (int i = 0; i < kMatrices; ++i) values[i] = registers[t * kMatrices + i];
  const uint32_t address = smem_u32(tile) + order[t % (8 * kMatrices)] * 16;
  if constexpr (kMatrices == 4) {
    if (kTranspose) stmatrix_x4_trans(address, values);
    if (!kTranspose) stmatrix_x4(address, values);
  } else if constexpr (kMatrices == 2) {
    if (kTranspose) stmatrix_x2_trans(address, values);
    if (!kTranspose) stmatrix_x2(address, values);
  } else {
    if (kTranspose) stmatrix_x1_trans(address, values);
    if (!kTranspose) stmatrix_x1(address, values);
  }
  __syncwarp();
  for (unsigned i = t; i < kMatrices * 64; i += 32) {
    out[i] = tile[order[i / 8] * 8 + static_cast<int>(i % 8)];
  }
}

template <int kMatrices, bool kTranspose>
uint64_t test_stmatrix(const std::vector<int>& order) {
  Inputs inputs(kMatrices);
  std::vector<uint32_t> values(32 * kMatrices);
  for (uint32_t& value : values) value = static_cast<uint32_t>(inputs.next());
  const Buffer<uint32_t> registers(values);
  const Buffer<int> rows(order);
  const Buffer<uint16_t> out(kMatrices * 64);
  simt::reset_counters();
  expect_clean(run(stmatrix_kernel<kMatrices, kTranspose>, 1, 32, 32 * 128, registers.data(),
                   rows.data(), out.data()),
               "stmatrix");
  Every right;
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    for (int row = 0; row < 8; ++row) {
      for (int column = 0; column < 8; ++column) {
        // The lane that holds it in an 8x8 fragment; transposed: of the mirrored element.
        const int r = kTranspose ? column : row, c = kTranspose ? row : column;
        const int lane = r * 4 + c / 2;
        right.equal(out[matrix * 64 + row * 8 + column],
                    static_cast<uint16_t>(values[lane * kMatrices + matrix] >> c % 2 * 16));
      }
    }
  }
  right.check("stmatrix's elements");
  CHECK(simt::counters().stmatrix == 1);
  return simt::counters().stmatrix_bank_conflicts;
}

TEST_CASE("stmatrix") {
  std::vector<int> dense(32), apart(32);
  for (int i = 0; i < 32; ++i) {
    dense[i] = i;
    apart[i] = i * 8;  // 128 bytes apart: all in the same banks
  }
  CHECK(test_stmatrix<4, false>(dense) == 0);
  CHECK(test_stmatrix<4, true>(dense) == 0);
  CHECK(test_stmatrix<2, false>(dense) == 0);
  CHECK(test_stmatrix<2, true>(dense) == 0);
  CHECK(test_stmatrix<1, false>(dense) == 0);
  CHECK(test_stmatrix<1, true>(dense) == 0);
  CHECK(test_stmatrix<4, true>(apart) == 4 * 7);
}

TEST_SUITE_END();

}  // namespace
