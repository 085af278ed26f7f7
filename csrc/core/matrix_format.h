// Formats of matrices: how they lie in memory, whatever arithmetic reads them.
// NOTE: never include this from cpu/isa/ (see core/dtype.h).
#pragma once

#include "abi/backend.h"
#include "abi/enum_names.h"

namespace sparse_experts {

// A dtype's values as they are, unscaled. f32, f16 and bf16 only.
inline SeMatrixFormat float_format(int32_t dtype) {
  SeMatrixFormat format = {};
  format.code = dtype == SE_F32 ? SE_CODE_F32 : dtype == SE_F16 ? SE_CODE_F16 : SE_CODE_BF16;
  return format;
}

// Whether the codes are values by themselves.
inline bool is_float_format(const SeMatrixFormat& format) {
  const bool is_float_code =
      format.code == SE_CODE_F32 || format.code == SE_CODE_F16 || format.code == SE_CODE_BF16;
  return is_float_code && format.table == SE_TABLE_NONE && format.scale == SE_SCALE_NONE &&
         format.offset == SE_OFFSET_NONE && format.flags == 0;
}

// The dtype whose values the codes of a float format are.
inline int32_t element_dtype(const SeMatrixFormat& format) {
  return format.code == SE_CODE_F32 ? SE_F32 : format.code == SE_CODE_F16 ? SE_F16 : SE_BF16;
}

// Bytes of the codes of one row.
inline int64_t code_row_bytes(int32_t code, int64_t cols) { return cols * code_bits(code) / 8; }

// The format of expert e's matrix; `dtype` is the layer's.
inline SeMatrixFormat format_of(const SeMatrixTable& table, int64_t e, int32_t dtype) {
  if (table.formats == nullptr) return float_format(dtype);
  return table.formats[table.format_of != nullptr ? table.format_of[e] : 0];
}

// What SeBackend.matrix_format answers where only a layer's own dtype is computed in place: other
// floats are converted to it.
inline int32_t only_own_dtype(int32_t dtype, SeMatrixFormat* format) {
  if (!is_float_format(*format)) return SE_FORMAT_NO;
  if (element_dtype(*format) == dtype) return SE_FORMAT_AS_IS;
  *format = float_format(dtype);
  return SE_FORMAT_CONVERTED;
}

// How a layer holds its matrices.
struct HeldFormat {
  int32_t dtype;  // the arithmetic that reads them
  SeMatrixFormat format;
};

}  // namespace sparse_experts
