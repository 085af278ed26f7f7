// Bringing matrices into a layer's memory: from a typed array with any strides and any pair of
// dtypes, or from rows of the host. The backend gives them the layout that its kernels want.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/layer.h"

namespace sparse_experts::engine {

// Element (r, c) is at data + (r * row_stride + c * col_stride) elements; strides may be negative.
struct StridedSource {
  const uint8_t* data;
  int32_t dtype;
  int64_t row_stride;
  int64_t col_stride;
};

// All four corners of a strided matrix must lie inside of its array, or INVALID_ARGUMENT.
void check_inside(int64_t offset, int64_t row_span, int64_t col_span, uint64_t length);

// Rounds once to the format that the layer holds, a float one. A few mebibytes (or a few rows) of scratch.
void store_matrix(DeviceExecutor& executor, const StridedSource& source, const MatrixSlot& slot,
                  const HeldFormat& held);

// Rows [begin, begin + count) of a slot from dense rows of the layer's format. A range of
// for_chunks, or all rows.
void write_rows(DeviceExecutor& executor, const MatrixSlot& slot, const HeldFormat& held,
                int64_t begin, int64_t count, const uint8_t* rows);
void zero_matrix(DeviceExecutor& executor, const MatrixSlot& slot, const HeldFormat& held);

// Rows of a slot that are converted and written at a time: what the backend packs together, as many
// as are worth a call. `row_bytes` of scratch each.
int64_t chunk_rows(const DeviceExecutor& executor, const MatrixSlot& slot, int64_t row_bytes);

// body(begin, count) over a slot's rows in chunks; none crosses from gate to up.
template <typename Body>
void for_chunks(const DeviceExecutor& executor, const MatrixSlot& slot, int64_t row_bytes,
                const Body& body) {
  const int64_t at_once = chunk_rows(executor, slot, row_bytes);
  const bool has_halves = slot.up_data != nullptr && !slot.is_interleaved;
  const int64_t first_end = has_halves ? slot.rows / 2 : slot.rows;
  for (int64_t begin = 0; begin < slot.rows;) {
    const int64_t end = begin < first_end ? first_end : slot.rows;
    const int64_t count = std::min(at_once, end - begin);
    body(begin, count);
    begin += count;
  }
}

}  // namespace sparse_experts::engine
