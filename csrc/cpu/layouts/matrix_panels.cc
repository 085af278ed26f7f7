#include "cpu/layouts/matrix_panels.h"

#include "core/matrix_format.h"
#include "cpu/layouts/float_panels.h"
#include "cpu/layouts/quant_panels.h"

namespace sparse_experts::cpu {

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
  } else {
    panel_bytes = PanelLayout(width, rows, cols, format.code).panel_bytes;
  }
}

Status pack_matrix_rows(int64_t width, const SeMatrixRows& rows) {
  if (!is_float_format(*rows.format)) return pack_quant_rows(width, rows);
  const int32_t code = rows.format->code;
  pack_rows(PanelLayout(width, rows.rows, rows.cols, code), rows.cols, code, rows.first_row,
            rows.num_rows, rows.source, rows.source_stride, rows.matrix);
  return Status::ok();
}

}  // namespace sparse_experts::cpu
