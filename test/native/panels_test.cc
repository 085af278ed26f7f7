// Packed panels: where each element lies, and the product over them against a plain double loop,
// for every height of a block and sizes that are no multiple of anything.
#include <algorithm>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cpp/check.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"
#include "cpu/layouts/float_panels.h"
#include "native/context.h"
#include "native/panel_product.h"
#include "oracle/fixture.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("panels");

using namespace sparse_experts;
using cpu::IsaKernels;
using cpu::PanelLayout;

std::vector<float> widened(const IsaKernels& kernels, const std::vector<char>& values,
                           int32_t dtype) {
  std::vector<float> wide(values.size() / dtype_bytes(dtype));
  kernels.widen(wide.data(), values.data(), dtype, static_cast<int64_t>(wide.size()));
  return wide;
}

// Packs dense rows that lie `stride` apart, in pieces of `granules` panels.
std::vector<char> packed(const PanelLayout& layout, const std::vector<char>& dense, int64_t rows,
                         int64_t cols, int64_t stride, int32_t dtype, int64_t granules) {
  std::vector<char> matrix(layout.bytes(), '\xff');
  const int64_t at_once = granules * layout.width;
  for (int64_t row = 0; row < rows; row += at_once)
    cpu::pack_rows(layout, cols, float_format(dtype).code, row, std::min(at_once, rows - row),
                   dense.data() + row * stride * dtype_bytes(dtype), stride, matrix.data());
  return matrix;
}

void test_places(const IsaKernels& kernels) {
  Random random(11);
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    const int64_t element = dtype_bytes(dtype);
    for (const int64_t rows : {1, 7, 16, 33, 70}) {
      for (const int64_t cols : {1, 2, 7, 8, 15, 33}) {
        const int64_t stride = cols + 3;
        const std::vector<char> dense = random_bytes(&random, rows * stride, dtype, 1);
        const PanelLayout layout(kernels.panel_width, rows, cols, float_format(dtype).code);
        const std::vector<char> matrix = packed(layout, dense, rows, cols, stride, dtype, 1);
        std::vector<char> expected(layout.bytes(), 0);
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t k = 0; k < cols; ++k) {
            const int64_t lane = row % layout.width;
            const int64_t place = dtype == SE_BF16 ? (k / 2 * layout.width + lane) * 2 + k % 2
                                                   : k * layout.width + lane;
            std::copy_n(
                dense.data() + (row * stride + k) * element, element,
                expected.data() + row / layout.width * layout.panel_bytes + place * element);
          }
        }
        CHECK_MESSAGE(matrix == expected, "panels of ", rows, " x ", cols, " ",
                      std::string(dtype_name(dtype)));
        CHECK_MESSAGE(matrix == packed(layout, dense, rows, cols, stride, dtype, 3),
                      "panels do not depend on the pieces");
      }
    }
  }
}

struct Product {
  int64_t m, n, k;
  int32_t dtype;
  bool bf16_x;
};

void test_product(const IsaKernels& kernels, const Product& p) {
  Random random(static_cast<uint64_t>(p.m * 1000003 + p.n * 1009 + p.k));
  const int32_t x_dtype = p.bf16_x ? SE_BF16 : SE_F32;
  const std::vector<char> x = random_bytes(&random, p.m * p.k, x_dtype, 1);
  const std::vector<char> w = random_bytes(&random, p.n * p.k, p.dtype, 1);
  const cpu::MatrixPanels layout(kernels.panel_width, p.n, p.k, float_format(p.dtype));
  const std::vector<char> matrix =
      packed(PanelLayout(kernels.panel_width, p.n, p.k, float_format(p.dtype).code), w, p.n, p.k,
             p.k, p.dtype, 2);
  const PanelProduct product = {kernels, layout, float_format(p.dtype).code, x_dtype, p.m, p.k};
  const int64_t stride = product.stride();
  const std::vector<float> out = product.multiply(x, matrix);

  const std::vector<float> wide_x = widened(kernels, x, x_dtype);
  const std::vector<float> wide_w = widened(kernels, w, p.dtype);
  std::vector<double> actual, expected;
  Every padding_is_zero;
  Every rest_is_untouched;
  for (int64_t i = 0; i < p.m; ++i) {
    const float* x_row = wide_x.data() + i * p.k;
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < p.k; ++k)
        sum += static_cast<double>(x_row[k]) * static_cast<double>(wide_w[j * p.k + k]);
      expected.push_back(sum);
      actual.push_back(out[i * stride + j]);
    }
    for (int64_t j = p.n; j < layout.num_panels * layout.width; ++j)
      padding_is_zero.equal(out[i * stride + j], 0);
    for (int64_t j = layout.num_panels * layout.width; j < stride; ++j)
      rest_is_untouched.that(std::isnan(out[i * stride + j]));
  }
  const std::string what = std::string("panel product ") + std::to_string(p.m) + " x " +
                           std::to_string(p.n) + " x " + std::to_string(p.k) + " " +
                           dtype_name(p.dtype) + (p.bf16_x ? " by bf16" : "");
  check_close(actual, expected, 1e-6, what);
  padding_is_zero.check(what + ": what lies beside it");
  rest_is_untouched.check(what + ": what lies beside it");
}

TEST_CASE("places and products") {
  const Context& context = current();
  const IsaKernels& kernels = *context.device->kernels;
  test_places(kernels);
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    for (const bool bf16_x : {false, true}) {
      if (bf16_x && (dtype != SE_BF16 || !cpu::has_bf16_product(kernels))) continue;
      for (int64_t m = 1; m <= 14; ++m) {
        for (const int64_t k : {1, 5, 256, 301}) test_product(kernels, {m, 70, k, dtype, bf16_x});
      }
      for (const int64_t n : {1, 31, 129}) test_product(kernels, {29, n, 515, dtype, bf16_x});
    }
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
