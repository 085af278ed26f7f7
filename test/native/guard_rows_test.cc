// Kernels over rows as callers hold them, and elementwise ones, with each operand up against a page that is
// not accessible, as in guard_pages_test.cc.
#include <cstring>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "cpp/check.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"
#include "native/context.h"
#include "native/guard_pages.h"
#include "oracle/fixture.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("guard_rows");

using namespace sparse_experts;
using cpu::CodedSlab;
using cpu::IsaKernels;

const IsaKernels& kernels() { return *current().device->kernels; }

struct RowsProduct {
  const cpu::MatmulKernel& kernel;
  int32_t dtype;
  int64_t m, n, k;
};

// Rows lie further apart than they are long, and nothing is behind the last.
void test_rows(const RowsProduct& p, Random* random) {
  const int64_t stride = p.k + 3;
  const int64_t x_element = dtype_bytes(p.kernel.x_dtype);
  const int64_t w_element = dtype_bytes(p.dtype);
  const std::vector<char> x = random_bytes(random, p.m * stride, p.kernel.x_dtype, 1);
  const std::vector<char> w = random_bytes(random, p.n * stride, p.dtype, 1);
  std::vector<int32_t> rows;
  for (int64_t i = 0; i < p.m; ++i) rows.push_back(static_cast<int32_t>(p.m - 1 - i));
  cpu::MatmulTile tile{};
  tile.x = x.data();
  tile.x_rows = rows.data();
  tile.x_stride_bytes = stride * x_element;
  tile.w = w.data();
  tile.w_stride_bytes = stride * w_element;
  tile.m = p.m;
  tile.n = p.n;
  tile.k = p.k;
  tile.out_stride = p.n + 5;
  const int64_t num_outputs = (p.m - 1) * tile.out_stride + p.n;
  std::vector<float> expected(num_outputs);
  std::memset(expected.data(), 0xff, num_outputs * sizeof(float));
  tile.out = expected.data();
  p.kernel.rows(tile);
  const std::string what = std::string("rows ") + std::to_string(p.m) + " x " +
                           std::to_string(p.n) + " x " + std::to_string(p.k) + " " +
                           dtype_name(p.dtype) + " by " + dtype_name(p.kernel.x_dtype);
  for (const Edge edge : kEdges) {
    Operands operands(edge);
    tile.x = operands.input("rows", x.data(), ((p.m - 1) * stride + p.k) * x_element);
    tile.x_rows = operands.input("numbers of rows", rows);
    tile.w = operands.input("weights", w.data(), ((p.n - 1) * stride + p.k) * w_element);
    tile.out = operands.outputs(num_outputs);
    if (operands.check(what, [&] { p.kernel.rows(tile); }))
      CHECK_MESSAGE(std::memcmp(tile.out, expected.data(), num_outputs * sizeof(float)) == 0, what,
                    ": the bits that they have elsewhere");
  }
}

TEST_CASE("products of rows") {
  Random random(1);
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    for (const int32_t x_dtype : {SE_F32, SE_BF16}) {
      const auto* kernel = cpu::find_matmul(kernels(), x_dtype, float_format(dtype).code);
      if (kernel == nullptr) continue;
      for (const int64_t k : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 1030}) {
        for (const int64_t n : {1, 2, 3, 13})
          for (const int64_t m : {1, 2, 3, 4, 5, 33}) test_rows({*kernel, dtype, m, n, k}, &random);
      }
    }
  }
}

constexpr int64_t kLengths[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 255, 256};

TEST_CASE("encoding of rows") {
  Random random(2);
  for (const int64_t n : kLengths) {
    const std::vector<char> values = random_bytes(&random, n, SE_F32, 1);
    for (const int64_t word_columns : {4, 8, 16}) {
      const std::string what = std::to_string(n) + " values as codes";
      std::vector<float> row(n);
      std::memcpy(row.data(), values.data(), values.size());
      const auto encode = [&](const float* in, char* slab) {
        kernels().encode(reinterpret_cast<CodedSlab*>(slab), in, n, word_columns);
      };
      alignas(CodedSlab) char expected[sizeof(CodedSlab)];
      encode(row.data(), expected);
      for (const Edge edge : kEdges) {
        Operands operands(edge);
        const float* in = operands.input("row", row);
        char* out = operands.output("slab", sizeof expected);
        if (operands.check(what, [&] { encode(in, out); }))
          CHECK_MESSAGE(std::memcmp(out, expected, sizeof expected) == 0, what);
      }
    }
  }
}

TEST_CASE("conversions") {
  Random random(3);
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    for (const int64_t n : kLengths) {
      const std::string what = std::to_string(n) + " " + dtype_name(dtype);
      const std::vector<char> stored = random_bytes(&random, n, dtype, 1);
      for (const Edge edge : kEdges) {
        Operands operands(edge);
        const char* in = operands.input("stored", stored);
        float* wide = operands.outputs(n);
        char* back = operands.output("narrowed", stored.size());
        int is_finite = 0;
        const bool is_inside = operands.check(what, [&] {
          kernels().widen(wide, in, dtype, n);
          is_finite = kernels().narrow(back, dtype, wide, n);
        });
        if (!is_inside) continue;
        CHECK_MESSAGE(is_finite == 1, what);
        CHECK_MESSAGE(std::memcmp(back, stored.data(), stored.size()) == 0, what);
      }
    }
  }
}

TEST_CASE("activations and sums") {
  Random random(4);
  for (const int64_t n : kLengths) {
    const std::vector<char> bytes = random_bytes(&random, 2 * n, SE_F32, 1);
    std::vector<float> gate(n);
    std::vector<float> up(n);
    std::memcpy(gate.data(), bytes.data(), n * sizeof(float));
    std::memcpy(up.data(), bytes.data() + n * sizeof(float), n * sizeof(float));
    for (const int32_t kind :
         {SE_SILU, SE_GELU, SE_GELU_TANH, SE_RELU, SE_RELU2, SE_SITU, SE_IDENTITY}) {
      for (const int32_t gated : {0, 1}) {
        const SeActivationSpec spec = {kind, gated, 1.0f, 0.0f, 1.0f, 1.0f};
        const auto run = [&](const float* of_gate, const float* of_up, float* out) {
          kernels().activate(spec, gated == 1 ? of_gate : nullptr, of_up, n, out);
          kernels().axpy(out, of_up, 0.25f, n);
          kernels().scale(out, out, 3.0f, n);
        };
        std::vector<float> expected(n);
        run(gate.data(), up.data(), expected.data());
        const std::string what = std::to_string(n) + " of activation " + std::to_string(kind);
        for (const Edge edge : kEdges) {
          Operands operands(edge);
          const float* of_gate = operands.input("gate", gate);
          const float* of_up = operands.input("up", up);
          float* out = operands.outputs(n);
          if (operands.check(what, [&] { run(of_gate, of_up, out); }))
            CHECK_MESSAGE(std::memcmp(out, expected.data(), n * sizeof *out) == 0, what);
        }
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
