// Kernels and packing with each operand up against a page that is not accessible, at its end and at its
// beginning: none is read or written beyond, and none of the inputs is written. Scales and offsets of panels
// lie in front of their codes, so that pages guard the beginning of those and the end of these; where they
// are packed from, each has an array of its own.
#include "native/guard_pages.h"

#include <cstring>
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

namespace native_test {
namespace {

TEST_SUITE_BEGIN("guard_pages");

using namespace sparse_experts;
using cpu::IsaKernels;
using cpu::kCodedRows;
using cpu::MatrixPanels;

const IsaKernels& kernels() { return *current().device->kernels; }

std::string size_text(int64_t m, int64_t n, int64_t k) {
  return " " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
}

// The pages see what they are there for.
TEST_CASE("a byte too far is seen and named") {
  for (const size_t bytes : {size_t{1}, size_t{7}, size_t{4096}, size_t{70001}}) {
    const std::vector<char> zeros(bytes, 0);
    for (const Edge edge : kEdges) {
      GuardedBytes guarded("it", zeros.data(), bytes, edge);
      const volatile char* data = guarded.data();
      char last = 1;
      const auto reads = [&](ptrdiff_t at) {
        return breach_of({&guarded}, [&] { last = data[at]; });
      };
      const auto end = static_cast<ptrdiff_t>(bytes);
      CHECK(reads(0).empty());
      CHECK(reads(end - 1).empty());
      CHECK(last == 0);
      if (edge == Edge::kEnd) CHECK(reads(end) == "byte 0 behind it");
      if (edge == Edge::kBeginning) CHECK(reads(-1) == "byte 1 before it");
      const auto writes = [&] { return breach_of({&guarded}, [&] { *guarded.data() = 5; }); };
      CHECK(writes().empty());
      guarded.make_read_only();
      CHECK(writes() == "a write to it");
      CHECK(reads(0).empty());
    }
  }
}

void test_panels(const std::string& name, const PanelProduct& product,
                 const std::vector<char>& panels, Random* random) {
  const int64_t m = product.m;
  const int64_t written = product.layout.num_panels * product.layout.width;
  const int32_t stored = product.x_dtype == kCodedRows ? SE_F32 : product.x_dtype;
  const std::vector<char> x = random_bytes(random, m * product.k, stored, 1);
  const std::vector<char> slabs = product.slabs(x);
  const std::vector<float> expected = product.multiply(x, panels);
  const std::string what = name + size_text(m, written, product.k) +
                           (product.x_dtype == kCodedRows ? " by codes"
                            : product.x_dtype == SE_BF16  ? " by bf16"
                                                          : " by f32");
  for (const Edge edge : kEdges) {
    Operands operands(edge);
    const char* in = operands.input("rows", slabs);
    std::vector<const char*> rows(m);
    for (int64_t i = 0; i < m; ++i) rows[i] = in + i * product.slab_bytes();
    float* out = operands.outputs((m - 1) * product.stride() + written);
    const cpu::PanelTile tile = product.tile(operands.input("pointers to rows", rows),
                                             operands.input("weights", panels), out);
    if (!operands.check(what, [&] { product.kernel().panels(tile); })) continue;
    Every same;
    for (int64_t i = 0; i < m; ++i)
      same.that(std::memcmp(out + i * product.stride(), expected.data() + i * product.stride(),
                            written * sizeof *out) == 0);
    same.check(what + ": the bits that they have elsewhere");
  }
}

struct Shape {
  int64_t n, k;
};
constexpr Shape kShapes[] = {{1, 1}, {5, 272}, {31, 33}, {33, 320}, {70, 255}};
constexpr int64_t kHeights[] = {1, 2, 3, 9, 14};

TEST_CASE("products with quantised panels") {
  Random random(1);
  for (const auto& [n, k] : kShapes) {
    for (const QuantisedKind& kind : quantised_kinds(n, k)) {
      const QuantisedMatrix matrix(kind.format, n, k, Scales::kUsual, &random);
      const MatrixPanels layout(kernels().panel_width, n, k, kind.format);
      const std::vector<char> panels = packed_panels(layout, matrix, 1);
      for (const int32_t x_dtype : {int32_t{SE_F32}, int32_t{SE_BF16}, kCodedRows}) {
        if (cpu::find_matmul(kernels(), x_dtype, kind.format.code) == nullptr) continue;
        for (const int64_t m : kHeights)
          test_panels(kind.name, {kernels(), layout, kind.format.code, x_dtype, m, k}, panels,
                      &random);
      }
    }
  }
}

// Rows that lie apart, with nothing behind the last.
SeMatrixRows float_rows(const SeMatrixFormat& format, int32_t dtype, int64_t n, int64_t k) {
  SeMatrixRows rows{};
  rows.rows = n;
  rows.cols = k;
  rows.dtype = dtype;
  rows.format = &format;
  rows.num_rows = n;
  rows.source_stride = k + 3;
  rows.global = 1;
  return rows;
}

TEST_CASE("panels of floats, and products with them") {
  Random random(2);
  for (const auto& [n, k] : kShapes) {
    for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
      const SeMatrixFormat format = float_format(dtype);
      const MatrixPanels layout(kernels().panel_width, n, k, format);
      const int64_t bytes = ((n - 1) * (k + 3) + k) * dtype_bytes(dtype);
      const std::vector<char> dense = random_bytes(&random, n * (k + 3), dtype, 1);
      const std::string name = dtype_name(dtype);
      SeMatrixRows rows = float_rows(format, dtype, n, k);
      std::vector<char> panels(layout.bytes());
      rows.source = dense.data();
      rows.matrix = panels.data();
      CHECK(cpu::pack_matrix_rows(layout.width, rows).is_ok());
      for (const Edge edge : kEdges) {
        Operands operands(edge);
        rows.source = operands.input("source", dense.data(), bytes);
        rows.matrix = operands.output("panels", panels.size());
        const std::string what = name + " packed" + size_text(1, n, k);
        if (operands.check(what, [&] { (void)cpu::pack_matrix_rows(layout.width, rows); }))
          CHECK_MESSAGE(std::memcmp(rows.matrix, panels.data(), panels.size()) == 0, what);
      }
      for (const int32_t x_dtype : {SE_F32, SE_BF16}) {
        const auto* kernel = cpu::find_matmul(kernels(), x_dtype, format.code);
        if (kernel == nullptr) continue;
        for (const int64_t m : kHeights)
          test_panels(name, {kernels(), layout, format.code, x_dtype, m, k}, panels, &random);
      }
    }
  }
}

TEST_CASE("packing of codes, scales and offsets") {
  Random random(3);
  for (const auto& [n, k] : kShapes) {
    for (QuantisedKind& kind : quantised_kinds(n, k)) {
      for (const bool is_permuted : {false, true}) {
        if (is_permuted) kind.format.flags |= SE_FORMAT_PERMUTED;
        const SeMatrixFormat& format = kind.format;
        const QuantisedMatrix matrix(format, n, k, Scales::kUsual, &random);
        const MatrixPanels layout(kernels().panel_width, n, k, format);
        const std::vector<char> panels = packed_panels(layout, matrix, 1);
        const int64_t blocks = n * num_blocks(format, k);
        const int64_t super_bytes = n * num_super_blocks(format, k) * 2;
        for (const Edge edge : kEdges) {
          Operands operands(edge);
          SeMatrixRows rows = matrix.rows_of(0, n, SE_F32, nullptr);
          rows.source = operands.input("codes", rows.source, (n - 1) * rows.source_stride + k);
          rows.scales = operands.input("scales", rows.scales, blocks * scale_bytes(format.scale));
          rows.offsets =
              operands.input("offsets", rows.offsets, blocks * offset_bytes(format.offset));
          const auto supers = [&](const std::string& name, const uint16_t* from) {
            const char* to = operands.input(name, from, from == nullptr ? 0 : super_bytes);
            return reinterpret_cast<const uint16_t*>(to);
          };
          rows.super_scales = supers("super blocks' scales", rows.super_scales);
          rows.super_offsets = supers("super blocks' offsets", rows.super_offsets);
          if (is_permuted)
            rows.permutation = reinterpret_cast<const int32_t*>(
                operands.input("permutation", rows.permutation, k * sizeof(int32_t)));
          rows.matrix = operands.output("panels", panels.size());
          const std::string what = kind.name + " packed" + size_text(1, n, k);
          if (operands.check(what, [&] { (void)cpu::pack_matrix_rows(layout.width, rows); }))
            CHECK_MESSAGE(std::memcmp(rows.matrix, panels.data(), panels.size()) == 0, what);
        }
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
