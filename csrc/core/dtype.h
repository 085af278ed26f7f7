// Element types: sizes and names; tensors of them.
// NOTE: never include this from cpu/isa/: an inline function compiled with AVX-512 flags could be
// the copy that the linker keeps.
#pragma once

#include <cstdint>
#include <cstring>

#include "abi/backend.h"
#include "abi/enum_names.h"

namespace sparse_experts {

// Bytes per element; 0 for a number that is no SeDtype.
inline int64_t dtype_bytes(int32_t dtype) {
  switch (dtype) {
    case SE_F32:
    case SE_I32:
      return 4;
    case SE_F16:
    case SE_BF16:
      return 2;
    case SE_U8:
      return 1;
    default:
      return 0;
  }
}

inline const char* dtype_name(int32_t dtype) {
  const EnumName* row = find_name(kDtypeNames, dtype);
  return row != nullptr ? row->name : "unknown";
}

inline bool is_float_dtype(int32_t dtype) {
  return dtype == SE_F32 || dtype == SE_F16 || dtype == SE_BF16;
}

// [num_rows, num_cols], rows behind each other.
inline SeTensor rows_tensor(void* data, int32_t dtype, int64_t num_rows, int64_t num_cols) {
  SeTensor rows = {};
  rows.data = data;
  rows.dtype = dtype;
  rows.rank = 2;
  rows.shape[0] = num_rows;
  rows.shape[1] = rows.strides[0] = num_cols;
  rows.strides[1] = 1;
  return rows;
}

}  // namespace sparse_experts
