// Bringing matrices into a layer's memory: from a typed array with any strides and any pair of
// dtypes, or from rows of the host. The backend gives them the layout that its kernels want.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "engine/executor.h"
#include "engine/matrix_slot.h"
#include "formats/stored_matrix.h"

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

// Rounds once to the floats that the slot holds, or quantises. A few mebibytes (or a few rows) of
// scratch.
void store_matrix(DeviceExecutor& executor, const StridedSource& source, const MatrixSlot& slot);

// Rows [begin, begin + count) of a slot of floats, from dense rows of them. A range of for_chunks, or
// all rows.
void write_rows(DeviceExecutor& executor, const MatrixSlot& slot, int64_t begin, int64_t count,
                const uint8_t* rows);

// Reads runs of a slot's rows in the format that it holds.
using ReadRows = std::function<void(const RowRun& run, CanonicalRows* rows)>;
// The same rows of a slot of codes with scales.
void write_canonical(DeviceExecutor& executor, const MatrixSlot& slot, int64_t begin, int64_t count,
                     const ReadRows& read);
// A stored matrix: in its own form where the slot holds that, else decoded, and quantised where the
// slot holds codes. `scratch` has stored_scratch_bytes; `check` runs between chunks and may throw.
void store_stored(DeviceExecutor& executor, const StoredMatrix& stored, const MatrixSlot& slot,
                  uint8_t* scratch, const std::function<void()>& check);
uint64_t stored_scratch_bytes(const DeviceExecutor& executor, const MatrixSlot& slot);
void zero_matrix(DeviceExecutor& executor, const MatrixSlot& slot);

// Bytes of one row as it comes to the backend.
int64_t source_row_bytes(const MatrixSlot& slot);

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
