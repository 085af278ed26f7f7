// Copying a matrix of a typed array into a layer, with any strides and any pair of dtypes.
#pragma once

#include <cstdint>

#include "binding/layer_state.h"

namespace sparse_experts::binding {

// Element (r, c) is at data + (r * row_stride + c * col_stride) elements; strides may be negative.
struct StridedSource {
  const uint8_t* data;
  int32_t dtype;
  int64_t row_stride;
  int64_t col_stride;
};

// All four corners of a strided matrix must lie inside of its array, or INVALID_ARGUMENT.
void check_inside(int64_t offset, int64_t row_span, int64_t col_span, uint64_t length);

// Rounds once to dtype. At most a mebibyte (or one row) of scratch.
void store_matrix(const StridedSource& source, const MatrixSlot& slot, int32_t dtype);

}  // namespace sparse_experts::binding
