// Rows of codes: how they are made, and their products with quantised panels.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/matrix_format.h"
#include "core/value_tables.h"
#include "cpp/check.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"
#include "native/context.h"
#include "native/panel_product.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("coded_panels");

using namespace sparse_experts;
using cpu::CodedSlab;
using cpu::IsaKernels;
using cpu::kCodedBlock;
using cpu::kCodedRows;
using cpu::kSlab;
using cpu::MatrixPanels;

const IsaKernels& kernels() { return *current().device->kernels; }

// A set whose bits this round's must have: those with a fused multiply-add agree, and the first behind
// `scalar` is the least of them. Null on it, and on `scalar`, which rounds twice.
const IsaKernels* same_bits_as() {
  const IsaKernels* const* sets = cpu::available_isas();
  return &kernels() == sets[0] || &kernels() == sets[1] ? nullptr : sets[1];
}

// What a block of a row becomes, in plain C.
struct Block {
  float scale = 0;
  std::vector<int> codes;
};

Block block_of(const std::vector<float>& values) {
  float magnitude = 0;
  bool is_finite = true;
  for (const float value : values) {
    magnitude = std::fmax(magnitude, std::fabs(value));
    is_finite = is_finite && std::isfinite(value);
  }
  Block block;
  block.codes.assign(values.size(), 0);
  if (!is_finite) {
    block.scale = NAN;
    return block;
  }
  if (magnitude < 0x1p-119f) return block;
  block.scale = magnitude / 127.0f;
  const float inverse = 127.0f / magnitude;
  for (size_t i = 0; i < values.size(); ++i)
    block.codes[i] = static_cast<int>(std::nearbyintf(values[i] * inverse));
  return block;
}

// Where column `col` of a slab lies among the codes: words of n columns, in a word the columns of its
// lower half at even places and those of the upper half at odd ones, two of each to a quad.
int64_t place_of(int64_t col, int64_t n) {
  const int64_t in_word = col % n;
  const int64_t upper = in_word / (n / 2);
  const int64_t number = in_word % (n / 2);
  return col - in_word + number / 2 * 4 + number % 2 * 2 + upper;
}

void check_slab(const std::vector<float>& values, int64_t n, const std::string& name) {
  CodedSlab slab;
  std::memset(&slab, 0x5a, sizeof slab);
  kernels().encode(&slab, values.data(), static_cast<int64_t>(values.size()), n);
  std::vector<float> padded(values);
  padded.resize(kSlab);
  Every codes;
  Every scales;
  Every sums;
  for (int64_t at = 0; at < kSlab; at += kCodedBlock) {
    const Block block = block_of({padded.begin() + at, padded.begin() + at + kCodedBlock});
    const float scale = slab.scales[at / kCodedBlock];
    scales.that(std::isnan(block.scale) ? std::isnan(scale) : scale == block.scale);
    int sum = 0;
    for (int64_t i = 0; i < kCodedBlock; ++i) {
      codes.equal(static_cast<int>(slab.codes[place_of(at + i, n)]), block.codes[i]);
      sum += block.codes[i];
      if (i % cpu::kSummed != cpu::kSummed - 1) continue;
      sums.equal(static_cast<int>(slab.sums[(at + i) / cpu::kSummed]), sum);
      sum = 0;
    }
  }
  codes.check(name + ": codes");
  scales.check(name + ": scales");
  sums.check(name + ": sums");
}

void test_codes() {
  Random random(1);
  const auto normals = [&](int64_t n, double scale) {
    std::vector<float> values(n);
    for (float& value : values) value = static_cast<float>(random.normal() * scale);
    return values;
  };
  for (const int64_t n : {4, 8, 16}) {
    for (const int64_t cols : {1, 15, 31, 32, 33, 100, 255, 256})
      check_slab(normals(cols, 1), n, std::to_string(cols) + " columns");
    for (const double scale : {1e-38, 1e-36, 1e-30, 1e30, 5e37})
      check_slab(normals(kSlab, scale), n, "values near " + std::to_string(std::log10(scale)));
    // Halves between two codes, exactly.
    std::vector<float> ties(kSlab);
    for (int64_t i = 0; i < kSlab; ++i)
      ties[i] = i % kCodedBlock == 0 ? 127.0f : static_cast<float>(i % 64) - 31.5f;
    check_slab(ties, n, "ties");
    check_slab(std::vector<float>(kSlab, 0.0f), n, "zeros");
    check_slab(std::vector<float>(kSlab, 3.4e38f), n, "the greatest numbers");
    for (const float value : {NAN, -NAN, INFINITY, -INFINITY}) {
      std::vector<float> values = normals(kSlab, 1);
      values[70] = value;
      check_slab(values, n, "a value that is not finite");
    }
  }
}

TEST_CASE("rows become codes") { test_codes(); }

std::vector<float> columns(const std::vector<float>& out, int64_t stride, int64_t n) {
  std::vector<float> part;
  for (size_t row = 0; row < out.size(); row += stride)
    part.insert(part.end(), out.begin() + row, out.begin() + row + n);
  return part;
}

std::string size_text(int64_t m, int64_t n, int64_t k) {
  return " " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
}

struct Rows {
  std::vector<double> values;      // of x
  std::vector<double> decoded;     // what their codes stand for
  std::vector<double> half_steps;  // how far apart the two are at most
};

Rows rows_of(const std::vector<char>& x, int64_t m, int64_t k) {
  Rows out;
  for (int64_t row = 0; row < m; ++row) {
    std::vector<float> values(k);
    std::memcpy(values.data(), x.data() + row * k * 4, k * 4);
    out.values.insert(out.values.end(), values.begin(), values.end());
    for (int64_t at = 0; at < k; at += kCodedBlock) {
      const int64_t end = std::min(k, at + kCodedBlock);
      const Block block = block_of({values.begin() + at, values.begin() + end});
      const double scale = block.scale;
      for (const int code : block.codes) out.decoded.push_back(scale * code);
      out.half_steps.resize(out.decoded.size(), scale / 2);
    }
  }
  return out;
}

bool is_coded(const QuantisedKind& kind) {
  const bool has = cpu::find_matmul(kernels(), kCodedRows, kind.format.code) != nullptr;
  CHECK(has == (kind.format.code != SE_CODE_E4M3));
  return has;
}

// The weights of panels whose stored columns are the layer's: sums in f32 of exact integers are all
// that differs from double precision. Rows in a batch have the bits of rows alone, and those of another
// instruction set.
void test_products(const QuantisedKind& kind, int64_t n, int64_t k,
                   const std::vector<int64_t>& heights, Random* random) {
  if (!is_coded(kind)) return;
  const QuantisedMatrix matrix(kind.format, n, k, Scales::kUsual, random);
  const MatrixPanels layout(kernels().panel_width, n, k, kind.format);
  const std::vector<char> panels = packed_panels(layout, matrix, 2);
  const std::vector<float> weights = matrix.weights();
  const int64_t most = *std::max_element(heights.begin(), heights.end());
  const std::vector<char> x = random_bytes(random, most * k, SE_F32, 1);
  const Rows rows = rows_of(x, most, k);
  std::vector<double> expected;
  std::vector<double> exact;  // of rows that are not rounded
  std::vector<double> bound;  // docs/numerics.md, with the error of an f32 sum
  for (int64_t i = 0; i < most; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      double exact_sum = 0;
      double distance = 0;
      for (int64_t c = 0; c < k; ++c) {
        const double weight = weights[j * k + c];
        const double product = rows.values[i * k + c] * weight;
        sum += rows.decoded[i * k + c] * weight;
        exact_sum += product;
        distance += rows.half_steps[i * k + c] * std::fabs(weight) * (1 + 1e-5);
        distance += 1e-6 * std::fabs(product);
      }
      expected.push_back(sum);
      exact.push_back(exact_sum);
      bound.push_back(distance);
    }
  }
  const auto product = [&](int64_t m) {
    return PanelProduct{kernels(), layout, kind.format.code, kCodedRows, m, k};
  };
  std::vector<float> alone;
  for (int64_t i = 0; i < most; ++i) {
    const std::vector<float> row =
        columns(product(1).multiply({x.begin() + i * k * 4, x.begin() + (i + 1) * k * 4}, panels),
                product(1).stride(), n);
    alone.insert(alone.end(), row.begin(), row.end());
  }
  check_close({alone.begin(), alone.end()}, expected, 1e-6, kind.name + size_text(most, n, k));
  Every bounded;
  for (size_t i = 0; i < alone.size(); ++i) bounded.near(alone[i], exact[i], bound[i]);
  bounded.check(kind.name + size_text(most, n, k) + ": near exact activations");
  if (const IsaKernels* other = same_bits_as()) {
    const MatrixPanels other_layout(other->panel_width, n, k, kind.format);
    const PanelProduct of_other = {*other, other_layout, kind.format.code, kCodedRows, most, k};
    const std::vector<float> out = of_other.multiply(x, packed_panels(other_layout, matrix, 2));
    check_same_bits(columns(out, of_other.stride(), n), alone,
                    kind.name + size_text(most, n, k) + ": as " + other->name);
  }
  for (const int64_t m : heights) {
    const std::vector<float> out = product(m).multiply({x.begin(), x.begin() + m * k * 4}, panels);
    const int64_t stride = product(m).stride();
    check_same_bits(columns(out, stride, n), {alone.begin(), alone.begin() + m * n},
                    kind.name + size_text(m, n, k) + ": rows alone");
    Every untouched;
    for (int64_t row = 0; row < m; ++row)
      for (int64_t j = layout.num_panels * layout.width; j < stride; ++j)
        untouched.that(std::isnan(out[row * stride + j]));
    untouched.check(kind.name + size_text(m, n, k) + ": what lies beside it");
  }
}

void test_kinds() {
  Random random(2);
  for (const QuantisedKind& kind : quantised_kinds(70, 704))
    test_products(kind, 70, 704, {2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 26}, &random);
  for (const int64_t n : {1, 31, 129}) {
    for (const int64_t k : {1, 15, 16, 17, 33, 255, 256, 257, 513}) {
      for (const QuantisedKind& kind : quantised_kinds(n, k))
        test_products(kind, n, k, {3}, &random);
    }
  }
}

TEST_CASE("products of codes by every kind of weights") { test_kinds(); }

struct Extremes {
  int32_t code;
  int32_t table;
};

// Codes and activations of the greatest magnitudes, of one sign and of both: no sum of integers
// saturates or loses a bit. Scales are 1, so each output is an integer, on every instruction set.
void test_integers() {
  Random random(3);
  const int64_t n = 40;
  const int64_t k = 512;
  for (const Extremes& of : {Extremes{SE_CODE_U2, SE_TABLE_Q2}, Extremes{SE_CODE_U3, SE_TABLE_Q4},
                             Extremes{SE_CODE_U4, SE_TABLE_Q}, Extremes{SE_CODE_U4, SE_TABLE_Q8},
                             Extremes{SE_CODE_U4, SE_TABLE_IQ4_NL},
                             Extremes{SE_CODE_U4, SE_TABLE_IQ3_S}, Extremes{SE_CODE_U5, SE_TABLE_Q},
                             Extremes{SE_CODE_U6, SE_TABLE_Q32}, Extremes{SE_CODE_I8, 0}}) {
    const bool is_i8 = of.code == SE_CODE_I8;
    const int num_codes = 1 << code_bits(of.code);
    SeMatrixFormat format = {};
    format.code = of.code;
    format.table = of.table;
    format.scale = SE_SCALE_F32;
    format.block_rows = 1;
    format.block_cols = 64;
    // The codes of the least and of the greatest value.
    const auto value_of = [&](int code) {
      return is_i8 ? static_cast<int>(static_cast<int8_t>(code))
                   : static_cast<int>(kValueTables[of.table].integers[code]);
    };
    int least = 0;
    int greatest = 0;
    for (int code = 0; code < num_codes; ++code) {
      if (value_of(code) < value_of(least)) least = code;
      if (value_of(code) > value_of(greatest)) greatest = code;
    }
    std::vector<uint8_t> codes(n * k);
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t col = 0; col < k; ++col) {
        const uint64_t any = row == 0 ? 0 : row == 1 ? 1 : random.below(row % 2 == 0 ? 2 : 3);
        const int code = any == 0   ? least
                         : any == 1 ? greatest
                                    : static_cast<int>(random.below(num_codes));
        codes[row * k + col] = static_cast<uint8_t>(code);
      }
    }
    const std::vector<float> scales(n * (k / 64), 1.0f);
    const MatrixPanels layout(kernels().panel_width, n, k, format);
    std::vector<char> panels(layout.bytes());
    SeMatrixRows rows{};
    rows.matrix = panels.data();
    rows.rows = n;
    rows.cols = k;
    rows.dtype = SE_F32;
    rows.format = &format;
    rows.num_rows = n;
    rows.source = codes.data();
    rows.source_stride = k;
    rows.scales = scales.data();
    rows.global = 1;
    CHECK(cpu::pack_matrix_rows(layout.width, rows).is_ok());
    const int64_t m = 9;
    std::vector<float> x(m * k);
    for (int64_t i = 0; i < m * k; ++i)
      x[i] = i < k ? 127.0f : i < 2 * k ? -127.0f : random.below(2) == 0 ? 127.0f : -127.0f;
    std::vector<char> bytes(x.size() * 4);
    std::memcpy(bytes.data(), x.data(), bytes.size());
    const PanelProduct product = {kernels(), layout, format.code, kCodedRows, m, k};
    const std::vector<float> out = product.multiply(bytes, panels);
    Every same;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t row = 0; row < n; ++row) {
        int64_t sum = 0;
        for (int64_t col = 0; col < k; ++col)
          sum += static_cast<int64_t>(x[i * k + col]) * value_of(codes[row * k + col]);
        same.equal(out[i * product.stride() + row],
                   static_cast<float>(sum) * kValueTables[of.table].factor);
      }
    }
    same.check("code " + std::to_string(of.code) + ", table " + std::to_string(of.table));
  }
}

TEST_CASE("sums of integers are exact") { test_integers(); }

// A row of x that is not finite gives NaN in all of its outputs, and no other row does.
void test_not_finite() {
  Random random(4);
  const int64_t n = 70;
  const int64_t k = 301;
  const int64_t m = 5;
  for (const QuantisedKind& kind : quantised_kinds(n, k)) {
    if (!is_coded(kind)) continue;
    const QuantisedMatrix matrix(kind.format, n, k, Scales::kUsual, &random);
    const MatrixPanels layout(kernels().panel_width, n, k, kind.format);
    const std::vector<char> panels = packed_panels(layout, matrix, 1);
    for (const float value : {NAN, INFINITY, -INFINITY}) {
      std::vector<char> x = random_bytes(&random, m * k, SE_F32, 1);
      std::memcpy(x.data() + (2 * k + 300) * 4, &value, sizeof value);
      const PanelProduct product = {kernels(), layout, kind.format.code, kCodedRows, m, k};
      const std::vector<float> out = columns(product.multiply(x, panels), product.stride(), n);
      Every same;
      for (int64_t i = 0; i < m * n; ++i) same.equal(std::isnan(out[i]), i / n == 2);
      same.check(kind.name);
    }
  }
}

TEST_CASE("activations that are not finite") { test_not_finite(); }

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
