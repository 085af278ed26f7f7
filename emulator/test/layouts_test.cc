// Fragment layouts of ldmatrix and mma by brute force: one element set at a time, and the lane and
// register that hold it against the published tables, written down here once more and differently:
// as (row, column) -> (lane, register).
#include <simt/ptx.h>

#include <cmath>

#include "harness.h"

namespace {

TEST_SUITE_BEGIN("layouts");

using namespace simt::ptx;

struct Place {
  int lane;
  int element;  // 16-bit elements: register * 2 + half; f32: register
};

// PTX ISA, "Matrix Fragments for mma.m16n8k16": groupID = lane >> 2, threadID_in_group = lane % 4.
Place a_place(int row, int column) {
  return {row % 8 * 4 + column % 8 / 2, (row / 8 + column / 8 * 2) * 2 + column % 2};
}
Place b_place(int k, int n) { return {n * 4 + k % 8 / 2, k / 8 * 2 + k % 2}; }
Place d_place(int row, int column) { return {row % 8 * 4 + column / 2, row / 8 * 2 + column % 2}; }

template <bool kF16>
__global__ void mma_kernel(const uint32_t* a, const uint32_t* b, float* d) {
  const unsigned t = threadIdx.x;
  uint32_t a_registers[4], b_registers[2];
  float d_registers[4];
  for (int i = 0; i < 4; ++i) a_registers[i] = a[t * 4 + i];
  for (int i = 0; i < 2; ++i) b_registers[i] = b[t * 2 + i];
  for (int i = 0; i < 4; ++i) d_registers[i] = d[t * 4 + i];
  if (kF16) {
    mma_m16n8k16_f16(d_registers, a_registers, b_registers);
  } else {
    mma_m16n8k16_bf16(d_registers, a_registers, b_registers);
  }
  for (int i = 0; i < 4; ++i) d[t * 4 + i] = d_registers[i];
}

// Small whole numbers: exact in both types, whatever the order of the sum.
uint16_t small_bits(int value, bool f16) {
  if (!f16) return bf16_bits(static_cast<float>(value));
  if (value == 0) return 0;
  const uint16_t sign = value < 0 ? 0x8000u : 0;
  const unsigned magnitude = static_cast<unsigned>(value < 0 ? -value : value);
  const int exponent = 31 - __builtin_clz(magnitude);
  return static_cast<uint16_t>(sign | (exponent + 15) << 10 |
                               ((magnitude << (10 - exponent)) & 0x3ffu));
}

template <bool kF16>
void test_mma() {
  Inputs inputs(kF16 ? 3 : 4);
  int wrong = 0;
  for (int round = 0; round < 20; ++round) {
    int a[16][16], b[16][8], c[16][8];
    const Buffer<uint32_t> a_bits(128), b_bits(64);
    const Buffer<float> d(128);
    auto* a_halves = reinterpret_cast<uint16_t*>(a_bits.data());
    auto* b_halves = reinterpret_cast<uint16_t*>(b_bits.data());
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 16; ++j) {
        a[i][j] = static_cast<int>(inputs.below(31)) - 15;
        const Place place = a_place(i, j);
        a_halves[place.lane * 8 + place.element] = small_bits(a[i][j], kF16);
      }
      for (int j = 0; j < 8; ++j) {
        b[i][j] = static_cast<int>(inputs.below(31)) - 15;
        c[i][j] = static_cast<int>(inputs.below(2000)) - 1000;
        const Place place = b_place(i, j);
        b_halves[place.lane * 4 + place.element] = small_bits(b[i][j], kF16);
        d[d_place(i, j).lane * 4 + d_place(i, j).element] = static_cast<float>(c[i][j]);
      }
    }
    if (!expect_clean(run(mma_kernel<kF16>, 1, 32, 0, a_bits.data(), b_bits.data(), d.data()),
                      "mma")) {
      return;
    }
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 8; ++j) {
        int sum = c[i][j];
        for (int k = 0; k < 16; ++k) sum += a[i][k] * b[k][j];
        if (d[d_place(i, j).lane * 4 + d_place(i, j).element] != static_cast<float>(sum)) ++wrong;
      }
    }
  }
  CHECK_MESSAGE(wrong == 0, "mma ", (kF16 ? "f16" : "bf16"), ": ", wrong,
                " of 2560 elements differ");
}

// The f16 conversion inside: every bit pattern times one.
TEST_CASE("f16 values") {
  int wrong = 0;
  for (uint32_t first = 0; first < 65536; first += 256) {
    const Buffer<uint32_t> a(128), b(64);
    const Buffer<float> d(128);
    std::memset(b.data(), 0, 256);
    std::memset(d.data(), 0, 512);
    auto* a_halves = reinterpret_cast<uint16_t*>(a.data());
    auto* b_halves = reinterpret_cast<uint16_t*>(b.data());
    // One column of a at a time reaches d through a one in b: 16 rows, one k each.
    for (int k = 0; k < 16; ++k) {
      std::memset(a.data(), 0, 512);
      std::memset(b.data(), 0, 256);
      std::memset(d.data(), 0, 512);
      for (int row = 0; row < 16; ++row) {
        const Place place = a_place(row, k);
        a_halves[place.lane * 8 + place.element] =
            static_cast<uint16_t>(first + static_cast<uint32_t>(k * 16 + row));
      }
      b_halves[b_place(k, 3).lane * 4 + b_place(k, 3).element] = 0x3c00;
      if (!run(mma_kernel<true>, 1, 32, 0, a.data(), b.data(), d.data()).clean) ++wrong;
      for (int row = 0; row < 16; ++row) {
        const uint32_t bits = first + static_cast<uint32_t>(k * 16 + row);
        const int exponent = static_cast<int>(bits >> 10 & 31u);
        const double fraction = static_cast<double>(bits & 0x3ffu) / 1024;
        double value =
            exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15);
        if (exponent == 31) value = (bits & 0x3ffu) != 0 ? NAN : INFINITY;
        if (bits & 0x8000u) value = -value;
        const double got =
            static_cast<double>(d[d_place(row, 3).lane * 4 + d_place(row, 3).element]);
        const bool same = std::isnan(value) ? std::isnan(got) : got == value;
        if (!same) ++wrong;
      }
    }
  }
  CHECK_MESSAGE(wrong == 0, "f16 values in mma: ", wrong, " of 65536 differ");
}

// Rows are scattered over shared memory; `order` says where each of the matrices' rows lies.
template <int kMatrices, bool kTranspose>
__global__ void ldmatrix_kernel(const uint16_t* values, const int* order, uint32_t* out) {
  unsigned char* tile = simt::dynamic_shared();
  const unsigned t = threadIdx.x;
  for (unsigned i = 0; i < 8; ++i) {
    reinterpret_cast<uint16_t*>(tile)[order[t] * 8 + i] = values[t * 8 + i];
  }
  __syncwarp();
  const uint32_t address = smem_u32(tile + order[t % (kMatrices * 8)] * 16);
  uint32_t registers[kMatrices];
  if constexpr (kMatrices == 4) {
    if (kTranspose) {
      ldmatrix_x4_trans(registers, address);
    } else {
      ldmatrix_x4(registers, address);
    }
  } else {
    if (kTranspose) {
      ldmatrix_x2_trans(registers, address);
    } else {
      ldmatrix_x2(registers, address);
    }
  }
  for (int i = 0; i < kMatrices; ++i) out[t * kMatrices + i] = registers[i];
}

template <int kMatrices, bool kTranspose>
void test_ldmatrix() {
  Inputs inputs(5);
  std::vector<uint16_t> values(256);
  for (uint16_t& value : values) value = static_cast<uint16_t>(inputs.next());
  std::vector<int> order(32);
  for (int i = 0; i < 32; ++i) order[i] = i;
  for (int i = 31; i > 0; --i) std::swap(order[i], order[inputs.below(i + 1)]);
  const Buffer<uint16_t> in(values);
  const Buffer<int> rows(order);
  const Buffer<uint32_t> out(32 * kMatrices);
  expect_clean(
      run(ldmatrix_kernel<kMatrices, kTranspose>, 1, 32, 512, in.data(), rows.data(), out.data()),
      "ldmatrix");
  int wrong = 0;
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    for (int row = 0; row < 8; ++row) {
      for (int column = 0; column < 8; ++column) {
        const uint16_t expected = kTranspose ? values[(matrix * 8 + column) * 8 + row]
                                             : values[(matrix * 8 + row) * 8 + column];
        const int lane = row * 4 + column / 2;
        const uint32_t got = out[lane * kMatrices + matrix] >> column % 2 * 16 & 0xffffu;
        if (got != expected) ++wrong;
      }
    }
  }
  CHECK_MESSAGE(wrong == 0, "ldmatrix x", kMatrices, (kTranspose ? ".trans" : ""), ": ", wrong,
                " elements differ");
}

TEST_CASE("mma and ldmatrix") {
  test_mma<false>();
  test_mma<true>();
  test_ldmatrix<4, false>();
  test_ldmatrix<4, true>();
  test_ldmatrix<2, false>();
  test_ldmatrix<2, true>();
}

TEST_SUITE_END();

}  // namespace
