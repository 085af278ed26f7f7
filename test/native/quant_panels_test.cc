// Quantised panels: each weight is what its format says, to the bit, in products of every height
// and of sizes that are no multiple of anything.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cpp/check.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"
#include "native/context.h"
#include "native/panel_product.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("quant_panels");

using namespace sparse_experts;
using cpu::IsaKernels;
using cpu::MatrixPanels;

const IsaKernels& kernels() { return *current().device->kernels; }

template <typename T>
std::vector<char> bytes_of(const std::vector<T>& values) {
  const char* from = reinterpret_cast<const char*>(values.data());
  return {from, from + values.size() * sizeof(T)};
}

// The first `n` columns of a product's rows.
std::vector<float> columns(const std::vector<float>& out, int64_t stride, int64_t n) {
  std::vector<float> part;
  for (size_t row = 0; row < out.size(); row += stride)
    part.insert(part.end(), out.begin() + row, out.begin() + row + n);
  return part;
}

std::string size_text(int64_t m, int64_t n, int64_t k) {
  return " " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
}

// A quantised matrix, and the same weights stored in f32.
struct Pair {
  Pair(const SeMatrixFormat& format, int64_t n, int64_t k, Scales scales, Random* random)
      : matrix(format, n, k, scales, random),
        layout(kernels().panel_width, n, k, format),
        panels(packed_panels(layout, matrix, 2)),
        weights(matrix.weights()),
        wide_layout(kernels().panel_width, n, k, float_format(SE_F32)),
        wide_panels(wide_layout.bytes(), '\xff') {
    const SeMatrixFormat f32 = float_format(SE_F32);
    SeMatrixRows rows{};
    rows.matrix = wide_panels.data();
    rows.rows = n;
    rows.cols = k;
    rows.dtype = SE_F32;
    rows.format = &f32;
    rows.num_rows = n;
    rows.source = weights.data();
    rows.source_stride = k;
    rows.global = 1;
    const Status status = cpu::pack_matrix_rows(kernels().panel_width, rows);
    CHECK_MESSAGE(status.is_ok(), status.message());
  }

  QuantisedMatrix matrix;
  MatrixPanels layout;
  std::vector<char> panels;
  std::vector<float> weights;
  MatrixPanels wide_layout;
  std::vector<char> wide_panels;
};

// With f32 activations: the same bits as with the weights stored in f32.
void test_decoded(const QuantisedKind& kind, const Pair& pair, int64_t m,
                  const std::vector<char>& x) {
  const int64_t n = pair.matrix.rows;
  const int64_t k = pair.matrix.cols;
  const PanelProduct product = {kernels(), pair.layout, kind.format.code, SE_F32, m, k};
  const PanelProduct wide = {kernels(), pair.wide_layout, SE_CODE_F32, SE_F32, m, k};
  const std::vector<float> out = product.multiply(x, pair.panels);
  const std::vector<float> expected = wide.multiply(x, pair.wide_panels);
  CHECK_MESSAGE(same_floats(columns(out, product.stride(), n), columns(expected, wide.stride(), n)),
                kind.name, size_text(m, n, k), ": the bits of the weights in f32");
  Every untouched;
  for (int64_t row = 0; row < m; ++row)
    for (int64_t j = pair.layout.num_panels * pair.layout.width; j < product.stride(); ++j)
      untouched.that(std::isnan(out[row * product.stride() + j]));
  untouched.check(kind.name + size_text(m, n, k) + ": what lies beside it");
}

void test_decoded(const QuantisedKind& kind, const Pair& pair, int64_t m, Random* random) {
  test_decoded(kind, pair, m, random_bytes(random, m * pair.matrix.cols, SE_F32, 1));
}

TEST_CASE("products with f32 activations are those of the weights in f32") {
  Random random(3);
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{70, 704}, {33, 301}, {130, 1040}}) {
    for (const QuantisedKind& kind : quantised_kinds(n, k)) {
      const Pair pair(kind.format, n, k, Scales::kAnyInRows, &random);
      const std::vector<int64_t> heights =
          k == 301 ? std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 25}
                   : std::vector<int64_t>{1, 2, 14};
      for (const int64_t m : heights) test_decoded(kind, pair, m, &random);
    }
  }
}

// Every row has usual scales. Products of subnormal activations are zeros of both signs, whose sums
// have a sign as well; infinite ones make infinite sums and NaN.
TEST_CASE("one and two rows of any activations") {
  Random random(8);
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{64, 512}, {33, 301}, {70, 1040}}) {
    for (const QuantisedKind& kind : quantised_kinds(n, k)) {
      const Pair pair(kind.format, n, k, Scales::kUsual, &random);
      // Panels have 0 for the -0 of e2m1, which nothing but the sign of such a zero shows.
      const bool has_signs = kind.format.table != SE_TABLE_E2M1;
      for (const int64_t m : {1, 2}) {
        test_decoded(kind, pair, m, &random);
        std::vector<float> hot(m * k, 0.0f);
        hot[k / 2] = 1.0f;
        test_decoded(kind, pair, m, bytes_of(hot));
        test_decoded(kind, pair, m, bytes_of(std::vector<float>(m * k, INFINITY)));
        if (!has_signs) continue;
        for (const float value : {-1.0f, 1e-38f, 1e-45f, -1e-45f})
          test_decoded(kind, pair, m, bytes_of(std::vector<float>(m * k, value)));
        std::vector<float> mixed(m * k);
        for (size_t i = 0; i < mixed.size(); ++i)
          mixed[i] = static_cast<float>(random.below(5) - 2) * 1e-45f;
        test_decoded(kind, pair, m, bytes_of(mixed));
      }
    }
  }
}

TEST_CASE("small and ragged matrices") {
  Random random(4);
  for (const int64_t n : {1, 31, 129}) {
    for (const int64_t k : {1, 15, 16, 17, 33, 255, 256, 257, 513}) {
      for (const QuantisedKind& kind : quantised_kinds(n, k))
        for (const int64_t m : {1, 3})
          test_decoded(kind, Pair(kind.format, n, k, Scales::kAnyInRows, &random), m, &random);
    }
  }
}

// The weights [n, k] that one-hot rows of x read back, m at a time.
std::vector<float> read_back(const QuantisedKind& kind, const Pair& pair, int32_t x_dtype,
                             int64_t m) {
  const int64_t n = pair.matrix.rows;
  const int64_t k = pair.matrix.cols;
  std::vector<float> weights(n * k);
  for (int64_t first = 0; first < k; first += m) {
    std::vector<float> x(m * k, 0.0f);
    std::vector<uint16_t> bf16(m * k, uint16_t{0});
    for (int64_t i = 0; i < m; ++i) {
      x[i * k + first + i] = 1;
      bf16[i * k + first + i] = 0x3f80;
    }
    const PanelProduct product = {kernels(), pair.layout, kind.format.code, x_dtype, m, k};
    const std::vector<float> out =
        product.multiply(x_dtype == SE_BF16 ? bytes_of(bf16) : bytes_of(x), pair.panels);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t row = 0; row < n; ++row)
        weights[row * k + first + i] = out[i * product.stride() + row];
  }
  return weights;
}

// In f32 no sum of a product and zeros rounds.
TEST_CASE("every code of every kind reads back") {
  Random random(5);
  const int64_t n = 96;
  const int64_t k = 288;
  for (const QuantisedKind& kind : quantised_kinds(n, k)) {
    const Pair pair(kind.format, n, k, Scales::kUsual, &random);
    const std::vector<float> weights = read_back(kind, pair, SE_F32, 32);
    Every same;
    for (int64_t i = 0; i < n * k; ++i) same.equal(weights[i], pair.weights[i]);
    same.check(kind.name);
  }
}

std::vector<double> doubles(const std::vector<char>& values, int32_t dtype) {
  std::vector<double> out(values.size() / dtype_bytes(dtype));
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = element(values.data(), dtype, static_cast<int64_t>(i));
  return out;
}

// An instruction set multiplies bf16 by every code, or by none.
bool has_bf16_products() {
  const bool has = cpu::find_matmul(kernels(), SE_BF16, SE_CODE_U4) != nullptr;
  Every same;
  for (int32_t code = SE_CODE_U2; code <= SE_CODE_E4M3; ++code)
    same.equal(cpu::find_matmul(kernels(), SE_BF16, code) != nullptr, has);
  same.check("products of bf16");
  return has;
}

// With bf16 activations no weight is rounded: sums in f32 are all that differs from sums in double
// precision. Rows in a batch have the bits of rows alone.
void test_bf16(const QuantisedKind& kind, int64_t n, int64_t k, const std::vector<int64_t>& heights,
               Random* random) {
  const Pair pair(kind.format, n, k, Scales::kUsual, random);
  const int64_t most = *std::max_element(heights.begin(), heights.end());
  const std::vector<char> x = random_bytes(random, most * k, SE_BF16, 1);
  const std::vector<double> x_values = doubles(x, SE_BF16);
  std::vector<double> expected;
  for (int64_t i = 0; i < most; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t c = 0; c < k; ++c)
        sum += x_values[i * k + c] * static_cast<double>(pair.weights[j * k + c]);
      expected.push_back(sum);
    }
  }
  std::vector<float> alone;
  for (int64_t i = 0; i < most; ++i) {
    const PanelProduct product = {kernels(), pair.layout, kind.format.code, SE_BF16, 1, k};
    const std::vector<float> row =
        columns(product.multiply({x.begin() + i * k * 2, x.begin() + (i + 1) * k * 2}, pair.panels),
                product.stride(), n);
    alone.insert(alone.end(), row.begin(), row.end());
  }
  check_close({alone.begin(), alone.end()}, expected, 1e-6, kind.name + size_text(most, n, k));
  for (const int64_t m : heights) {
    const PanelProduct product = {kernels(), pair.layout, kind.format.code, SE_BF16, m, k};
    const std::vector<float> out =
        product.multiply({x.begin(), x.begin() + m * k * 2}, pair.panels);
    check_same_bits(columns(out, product.stride(), n), {alone.begin(), alone.begin() + m * n},
                    kind.name + size_text(m, n, k) + ": rows alone");
    Every untouched;
    for (int64_t row = 0; row < m; ++row)
      for (int64_t j = pair.layout.num_panels * pair.layout.width; j < product.stride(); ++j)
        untouched.that(std::isnan(out[row * product.stride() + j]));
    untouched.check(kind.name + size_text(m, n, k) + ": what lies beside it");
  }
}

TEST_CASE("products with bf16 activations round no weight") {
  if (!has_bf16_products()) return;
  Random random(7);
  for (const QuantisedKind& kind : quantised_kinds(70, 704)) {
    test_bf16(kind, 70, 704, {2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 26}, &random);
  }
  for (const int64_t n : {1, 31, 129}) {
    for (const int64_t k : {1, 15, 16, 17, 33, 255, 256, 257, 513}) {
      for (const QuantisedKind& kind : quantised_kinds(n, k)) {
        test_bf16(kind, n, k, {3}, &random);
      }
    }
  }
}

// One-hot rows read back what each code stands for: every value is exact in bf16, and so is its
// product with one. What it is scaled and shifted by rounds as f32 does. Codes become bf16 by other
// instructions where rows are few.
TEST_CASE("every code of every kind reads back by bf16") {
  if (!has_bf16_products()) return;
  Random random(12);
  const int64_t n = 96;
  const int64_t k = 288;
  for (const QuantisedKind& kind : quantised_kinds(n, k)) {
    const Pair pair(kind.format, n, k, Scales::kUsual, &random);
    const bool shifts = kind.format.offset != SE_OFFSET_NONE;
    for (const int64_t m : {1, 2, 4, 32}) {
      const std::vector<float> weights = read_back(kind, pair, SE_BF16, m);
      Every same;
      for (int64_t i = 0; i < n * k; ++i) {
        // A scaled value and an offset are added with one rounding here, with two there; both are
        // less than 1 in these matrices.
        if (shifts) same.near(weights[i], pair.weights[i], 0x1p-22);
        if (!shifts) same.equal(weights[i], pair.weights[i]);
      }
      same.check(kind.name + ", rows at once: " + std::to_string(m));
    }
  }
}

// e4m3's NaN makes its rows NaN, and no other one.
TEST_CASE("NaN codes and scales by bf16") {
  if (!has_bf16_products()) return;
  Random random(13);
  const int64_t n = 70;
  const int64_t k = 301;
  for (const QuantisedKind& kind : quantised_kinds(n, k)) {
    const Pair pair(kind.format, n, k, Scales::kAnyInRows, &random);
    const std::vector<char> x = random_bytes(&random, k, SE_BF16, 1);
    const PanelProduct product = {kernels(), pair.layout, kind.format.code, SE_BF16, 1, k};
    const std::vector<float> out = product.multiply(x, pair.panels);
    Every same;
    for (int64_t row = 0; row < n; ++row) {
      const auto from = pair.weights.begin() + row * k;
      const bool has_nan = std::any_of(from, from + k, [](float w) { return std::isnan(w); });
      const bool is_finite = std::all_of(from, from + k, [](float w) { return std::isfinite(w); });
      if (has_nan) same.that(std::isnan(out[row]));
      // Scales near the end of f32 may overflow in a sum.
      if (is_finite && row % 7 != 4) same.that(std::isfinite(out[row]));
    }
    same.check(kind.name);
  }
}

TEST_CASE("panels do not depend on the pieces that they are written in") {
  Random random(6);
  const int64_t n = 200;
  const int64_t k = 320;
  for (const QuantisedKind& kind : quantised_kinds(n, k)) {
    const QuantisedMatrix matrix(kind.format, n, k, Scales::kUsual, &random);
    const MatrixPanels layout(kernels().panel_width, n, k, kind.format);
    const std::vector<char> whole = packed_panels(layout, matrix, layout.num_panels);
    CHECK_MESSAGE(whole == packed_panels(layout, matrix, 1), kind.name);
    CHECK_MESSAGE(whole == packed_panels(layout, matrix, 3), kind.name);
  }
}

// A matrix of the size of a published model's takes what its codes and scales take, and little
// more.
TEST_CASE("panels are as small as what is stored") {
  const int64_t n = 1408;
  const int64_t k = 2048;
  for (const QuantisedKind& kind : quantised_kinds(n, k)) {
    const SeMatrixFormat& format = kind.format;
    const MatrixPanels layout(kernels().panel_width, n, k, format);
    const int64_t blocks =
        num_blocks(format, k) * ((n + format.block_rows - 1) / format.block_rows);
    const int64_t supers = n * num_super_blocks(format, k);
    const int64_t stored = n * k * code_bits(format.code) / 8 +
                           blocks * (scale_bytes(format.scale) + offset_bytes(format.offset)) +
                           supers * 2 * (format.offset == SE_OFFSET_U8 ? 2 : 1);
    // Scales of blocks of rows that are no panels are repeated in each row.
    const double bound = format.block_rows == 24 ? 1.04 : 1.01;
    CHECK_MESSAGE(static_cast<double>(layout.bytes()) <= bound * static_cast<double>(stored),
                  kind.name, ": ", layout.bytes(), " bytes for ", stored);
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
