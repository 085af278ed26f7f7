// Bringing matrices into a layer's memory: from a typed array with any strides and any pair of
// dtypes, or from dense rows of the host. Where the device has memory of its own, rows are made on
// the host and copied.
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

// Rounds once to dtype. A few mebibytes (or one row) of scratch.
void store_matrix(DeviceExecutor& executor, const StridedSource& source, const MatrixSlot& slot,
                  int32_t dtype);

// Rows [begin, begin + count) of a slot from dense rows: one copy where the slot is dense, else row
// by row.
void write_rows(DeviceExecutor& executor, const MatrixSlot& slot, int64_t element_bytes,
                int64_t begin, int64_t count, const uint8_t* rows);
void zero_matrix(DeviceExecutor& executor, const MatrixSlot& slot, int64_t element_bytes);

}  // namespace sparse_experts::binding
