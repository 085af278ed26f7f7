// Formats of matrices: how they lie in memory, whatever arithmetic reads them.
// NOTE: never include this from cpu/isa/ (see core/dtype.h).
#pragma once

#include "abi/backend.h"
#include "abi/enum_names.h"
#include "core/value_tables.h"

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

// Bytes of the codes of one row of floats.
inline int64_t code_row_bytes(int32_t code, int64_t cols) { return cols * code_bits(code) / 8; }

// Whether codes are indices into a value table.
inline bool is_index_code(int32_t code) { return code >= SE_CODE_U2 && code <= SE_CODE_U6; }

// Blocks of one row, which have a scale each; 0 where there is no scale.
inline int64_t num_blocks(const SeMatrixFormat& format, int64_t cols) {
  return format.block_cols == 0 ? 0 : (cols + format.block_cols - 1) / format.block_cols;
}

// Super blocks of one row; 0 where there are none.
inline int64_t num_super_blocks(const SeMatrixFormat& format, int64_t cols) {
  return format.super_cols == 0 ? 0 : (cols + format.super_cols - 1) / format.super_cols;
}

// Whether the blocks of a row of `cols` columns are what SeMatrixFormat promises.
inline bool has_whole_blocks(const SeMatrixFormat& format, int64_t cols) {
  return format.block_cols >= cols || format.block_cols % 16 == 0;
}

inline bool has_super_scales(const SeMatrixFormat& format) {
  return format.scale == SE_SCALE_U8 || format.scale == SE_SCALE_I8;
}

// Whether stored columns lie in another order than the layer's.
inline bool is_permuted(const SeMatrixFormat& format) {
  return (format.flags & SE_FORMAT_PERMUTED) != 0;
}

// Whether the format is one that SeMatrixFormat describes. Sizes are computed from it.
inline bool is_matrix_format(const SeMatrixFormat& format) {
  if (is_float_format(format)) {
    return format.block_rows == 0 && format.block_cols == 0 && format.super_cols == 0;
  }
  constexpr int64_t kNumTables = sizeof kValueTables / sizeof kValueTables[0];
  if (format.table < 0 || format.table >= kNumTables) return false;
  const bool is_index = is_index_code(format.code);
  if (!is_index && format.code != SE_CODE_I8 && format.code != SE_CODE_E4M3) return false;
  if (is_index != (format.table != SE_TABLE_NONE)) return false;
  const ValueTable& table = kValueTables[format.table];
  const int64_t num_codes = int64_t{1} << code_bits(format.code);
  if (is_index && !table.is_affine && format.code != SE_CODE_U4) return false;
  if (is_index && table.is_affine && table.bias >= num_codes) return false;
  if (scale_bytes(format.scale) == 0) return false;
  if (format.offset != SE_OFFSET_NONE && offset_bytes(format.offset) == 0) return false;
  // Only whole numbers have a zero point.
  if (format.offset == SE_OFFSET_ZERO && !(table.is_affine || format.code == SE_CODE_I8))
    return false;
  const bool has_supers = has_super_scales(format) || format.offset == SE_OFFSET_U8;
  if (has_supers != (format.super_cols > 0)) return false;
  if (format.block_rows < 1 || format.block_cols < 1) return false;
  if (has_supers && format.super_cols % format.block_cols != 0) return false;
  const int64_t both = SE_FORMAT_GLOBAL_MULTIPLIES | SE_FORMAT_GLOBAL_DIVIDES;
  return (format.flags & ~(both | SE_FORMAT_PERMUTED)) == 0 && (format.flags & both) != both;
}

// The format of expert e's matrix; `dtype` is the layer's.
inline SeMatrixFormat format_of(const SeMatrixTable& table, int64_t e, int32_t dtype) {
  if (table.formats == nullptr) return float_format(dtype);
  return table.formats[table.format_of != nullptr ? table.format_of[e] : 0];
}

// Where only a layer's own dtype is computed in place.
inline bool is_own_dtype(int32_t dtype, const SeMatrixFormat& format) {
  return is_float_format(format) && element_dtype(format) == dtype;
}

// What SeBackend.matrix_format answers where only a layer's own dtype is computed in place: other
// floats are converted to it.
inline int32_t only_own_dtype(int32_t dtype, SeMatrixFormat* format) {
  if (!is_float_format(*format)) return SE_FORMAT_NO;
  if (is_own_dtype(dtype, *format)) return SE_FORMAT_AS_IS;
  *format = float_format(dtype);
  return SE_FORMAT_CONVERTED;
}

inline bool is_same_format(const SeMatrixFormat& a, const SeMatrixFormat& b) {
  return a.code == b.code && a.table == b.table && a.scale == b.scale && a.offset == b.offset &&
         a.block_rows == b.block_rows && a.block_cols == b.block_cols &&
         a.super_cols == b.super_cols && a.flags == b.flags;
}

}  // namespace sparse_experts
