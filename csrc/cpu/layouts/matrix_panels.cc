#include "cpu/layouts/matrix_panels.h"

#include <algorithm>
#include <cstring>

#include "core/matrix_format.h"
#include "cpu/layouts/float_panels.h"
#include "cpu/layouts/quant_panels.h"
#include "ops/checks.h"

namespace sparse_experts::cpu {
namespace {

// Columns of activations are gathered through it, unchecked.
Status check_permutation(const SeMatrixRows& rows) {
  if (rows.permutation == nullptr) return Status::invalid("matrix: its permutation is missing");
  const bool is_inside = std::all_of(rows.permutation, rows.permutation + rows.cols,
                                     [&](int32_t col) { return col >= 0 && col < rows.cols; });
  return is_inside ? Status::ok() : Status::invalid("matrix: a permutation leaves the columns");
}

}  // namespace

bool holds_format(int32_t dtype, const SeMatrixFormat& format, bool bf16_product) {
  if (!is_float_format(format)) return has_quant_panels(format);
  if (is_own_dtype(dtype, format)) return true;
  // Other floats are widened as they are read, and none takes more memory than the dtype's own. But
  // a layer that multiplies bf16 by bf16 would have to give that up.
  const bool would_cost = code_bits(format.code) > code_bits(float_format(dtype).code) ||
                          (bf16_product && dtype == SE_BF16);
  return !would_cost;
}

MatrixPanels::MatrixPanels(int64_t panel_width, int64_t rows, int64_t cols,
                           const SeMatrixFormat& format)
    : width(panel_width) {
  num_panels = (rows + width - 1) / width;
  is_quantised = !is_float_format(format);
  if (is_quantised) {
    quant = quant_panel(width, rows, cols, format);
    panel_bytes = quant_panel_bytes(quant);
    if (is_permuted(format)) permutation_bytes = cols * int64_t{sizeof(int32_t)};
  } else {
    panel_bytes = PanelLayout(width, rows, cols, format.code).panel_bytes;
  }
}

const int32_t* MatrixPanels::permutation(const void* matrix) const {
  if (permutation_bytes == 0) return nullptr;
  const char* end = static_cast<const char*>(matrix) + panel_bytes * num_panels;
  return reinterpret_cast<const int32_t*>(end);
}

Status pack_matrix_rows(int64_t width, const SeMatrixRows& rows) {
  if (!is_float_format(*rows.format)) {
    if (!is_permuted(*rows.format)) return pack_quant_rows(width, rows);
    SE_RETURN_IF_ERROR(check_permutation(rows));
    SE_RETURN_IF_ERROR(pack_quant_rows(width, rows));
    // The same for all rows: those that write the first ones write it, beside nobody else.
    if (rows.first_row == 0) {
      const MatrixPanels panels(width, rows.rows, rows.cols, *rows.format);
      std::memcpy(static_cast<char*>(rows.matrix) + panels.panel_bytes * panels.num_panels,
                  rows.permutation, static_cast<size_t>(panels.permutation_bytes));
    }
    return Status::ok();
  }
  const int32_t code = rows.format->code;
  pack_rows(PanelLayout(width, rows.rows, rows.cols, code), rows.cols, code, rows.first_row,
            rows.num_rows, rows.source, rows.source_stride, rows.matrix);
  return Status::ok();
}

}  // namespace sparse_experts::cpu
