#include "native/panel_product.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "cpp/check.h"
#include "cpu/isa/choose_isa.h"
#include "cpu/ops/expert_matmul.h"

namespace native_test {
namespace {

using namespace sparse_experts;
using cpu::kSlab;
using cpu::RowLayout;

// x in slabs as a forward lays it out, everything that is no element NaN.
std::vector<char> in_slabs(const std::vector<char>& x, int64_t num_rows, int64_t cols,
                           int64_t element) {
  const RowLayout layout = RowLayout::slabs(num_rows);
  std::vector<char> out(RowLayout::slab_elements(num_rows, cols) * element, '\xff');
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t k = 0; k < cols; ++k)
      std::copy_n(x.data() + (row * cols + k) * element, element,
                  out.data() + layout.offset(row, k) * element);
  }
  return out;
}

// f32 rows as codes, in slabs; nothing behind the last column is read.
std::vector<char> coded_slabs(const cpu::IsaKernels& kernels, const std::vector<char>& x,
                              int64_t num_rows, int64_t cols, int32_t code) {
  const int64_t num_slabs = (cols + kSlab - 1) / kSlab;
  std::vector<char> out(num_slabs * num_rows * sizeof(cpu::CodedSlab), '\xff');
  std::vector<float> row(cols);
  for (int64_t i = 0; i < num_rows; ++i) {
    std::memcpy(row.data(), x.data() + i * cols * 4, cols * 4);
    for (int64_t slab = 0; slab < num_slabs; ++slab) {
      cpu::CodedSlab coded;
      std::memset(&coded, 0xff, sizeof coded);
      kernels.encode(&coded, row.data() + slab * kSlab, std::min(kSlab, cols - slab * kSlab),
                     cpu::columns_of_word(code));
      std::memcpy(out.data() + (slab * num_rows + i) * sizeof coded, &coded, sizeof coded);
    }
  }
  return out;
}

}  // namespace

int64_t PanelProduct::slab_bytes() const {
  if (x_dtype == cpu::kCodedRows) return sizeof(cpu::CodedSlab);
  return kSlab * dtype_bytes(x_dtype);
}

std::vector<char> PanelProduct::slabs(const std::vector<char>& x) const {
  if (x_dtype == cpu::kCodedRows) return coded_slabs(kernels, x, m, k, code);
  return in_slabs(x, m, k, dtype_bytes(x_dtype));
}

cpu::PanelTile PanelProduct::tile(const char* const* rows, const char* matrix, float* out) const {
  cpu::PanelTile tile{};
  tile.x_rows = rows;
  tile.x_slab_bytes = m * slab_bytes();
  tile.w = matrix;
  tile.panel_bytes = layout.panel_bytes;
  tile.num_panels = layout.num_panels;
  tile.m = m;
  tile.k = k;
  tile.out = out;
  tile.out_stride = stride();
  tile.quant = layout.is_quantised ? &layout.quant : nullptr;
  return tile;
}

const cpu::MatmulKernel& PanelProduct::kernel() const {
  return *cpu::find_matmul(kernels, x_dtype, code);
}

std::vector<float> PanelProduct::multiply(const std::vector<char>& x,
                                          const std::vector<char>& matrix) const {
  const std::vector<char> in = slabs(x);
  std::vector<const char*> rows(m);
  // Backwards: rows are where the pointers say.
  for (int64_t i = 0; i < m; ++i) rows[m - 1 - i] = in.data() + i * slab_bytes();
  std::vector<float> out(m * stride(), NAN);
  // The caller's first row is the last pointer's.
  std::vector<float> backwards(out);
  kernel().panels(tile(rows.data(), matrix.data(), backwards.data()));
  for (int64_t i = 0; i < m; ++i)
    std::copy_n(backwards.begin() + i * stride(), stride(), out.begin() + (m - 1 - i) * stride());
  return out;
}

std::vector<char> packed_panels(const cpu::MatrixPanels& layout, const QuantisedMatrix& matrix,
                                int64_t granules) {
  std::vector<char> out(layout.bytes(), '\xff');
  const int64_t at_once = granules * layout.width;
  for (int64_t row = 0; row < matrix.rows; row += at_once) {
    const SeMatrixRows rows =
        matrix.rows_of(row, std::min(at_once, matrix.rows - row), SE_F32, out.data());
    const Status status = cpu::pack_matrix_rows(layout.width, rows);
    CHECK_MESSAGE(status.is_ok(), status.message());
  }
  return out;
}

}  // namespace native_test
