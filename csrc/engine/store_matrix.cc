#include "engine/store_matrix.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "engine/device_memory.h"
#include "formats/decode.h"

namespace sparse_experts::engine {
namespace {

// Scratch of one chunk of rows: in cache on the host; to a device long enough that a copy's start
// costs nothing.
constexpr int64_t kHostBytes = int64_t{1} << 19;
constexpr int64_t kDeviceBytes = int64_t{8} << 20;

// Gathers rows [begin, begin + count) into dense memory.
void gather_rows(const StridedSource& source, int64_t begin, int64_t count, int64_t cols,
                 uint8_t* to) {
  const int64_t element = dtype_bytes(source.dtype);
  for (int64_t row = begin; row < begin + count; ++row) {
    const uint8_t* from = source.data + row * source.row_stride * element;
    if (source.col_stride == 1) {
      std::memcpy(to, from, static_cast<size_t>(cols * element));
      to += cols * element;
      continue;
    }
    for (int64_t col = 0; col < cols; ++col) {
      std::memcpy(to, from + col * source.col_stride * element, static_cast<size_t>(element));
      to += element;
    }
  }
}

}  // namespace

void check_inside(int64_t offset, int64_t row_span, int64_t col_span, uint64_t length) {
  int64_t first = offset;
  int64_t last = offset;
  bool overflow = false;
  for (int64_t span : {row_span, col_span}) {
    int64_t* end = span < 0 ? &first : &last;
    overflow = overflow || __builtin_add_overflow(*end, span, end);
  }
  if (overflow || first < 0 || static_cast<uint64_t>(last) >= length) {
    fail_argument("offset and strides leave the array of " + std::to_string(length) + " elements");
  }
}

int64_t chunk_rows(const DeviceExecutor& executor, const MatrixSlot& slot, int64_t row_bytes) {
  const int64_t bytes = executor.has_host_memory() ? kHostBytes : kDeviceBytes;
  const int64_t granule =
      std::max<int64_t>(1, executor.backend().matrix_granule(executor.device())) *
      (slot.is_interleaved ? 2 : 1);
  return std::max<int64_t>(1, bytes / std::max<int64_t>(1, row_bytes) / granule) * granule;
}

void store_matrix(DeviceExecutor& executor, const StridedSource& source, const MatrixSlot& slot,
                  const HeldFormat& held) {
  const int32_t dtype = element_dtype(held.format);
  const int64_t row_bytes = slot.cols * dtype_bytes(source.dtype);
  const int64_t converted_row_bytes = slot.cols * dtype_bytes(dtype);
  const int64_t at_once = std::min(chunk_rows(executor, slot, row_bytes), slot.rows);
  std::vector<uint8_t> rows(static_cast<size_t>(at_once * row_bytes));
  std::vector<uint8_t> converted;
  const bool is_direct = source.dtype == dtype;
  if (!is_direct) converted.resize(static_cast<size_t>(at_once * converted_row_bytes));
  for_chunks(executor, slot, row_bytes, [&](int64_t begin, int64_t count) {
    gather_rows(source, begin, count, slot.cols, rows.data());
    if (!is_direct) {
      EncodedMatrix matrix;
      matrix.data = {rows.data(), static_cast<uint64_t>(count * row_bytes),
                     stored_type_of(source.dtype)};
      throw_if_failed(Failure::from(
          decode_matrix(matrix, count, slot.cols, dtype, converted.data(), slot.cols)));
    }
    write_rows(executor, slot, held, begin, count, is_direct ? rows.data() : converted.data());
  });
}

namespace {

// Rows [first_row, first_row + num_rows) of one of the device's matrices.
void write_part(DeviceExecutor& executor, const MatrixSlot& slot, const HeldFormat& held,
                uint8_t* matrix, int64_t matrix_rows, int64_t first_row, int64_t num_rows,
                const uint8_t* source, int64_t source_stride) {
  if (num_rows <= 0) return;
  SeMatrixRows rows = {};
  rows.matrix = matrix;
  rows.rows = matrix_rows;
  rows.cols = slot.cols;
  rows.dtype = held.dtype;
  rows.format = &held.format;
  rows.first_row = first_row;
  rows.num_rows = num_rows;
  rows.source = source;
  rows.source_stride = source_stride;
  rows.global = 1;
  throw_if_failed(executor.call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.matrix_write(device, &rows, status);
  }));
}

}  // namespace

void write_rows(DeviceExecutor& executor, const MatrixSlot& slot, const HeldFormat& held,
                int64_t begin, int64_t count, const uint8_t* rows) {
  const int64_t row_bytes = code_row_bytes(held.format.code, slot.cols);
  if (slot.up_data == nullptr) {
    write_part(executor, slot, held, slot.data, slot.rows, begin, count, rows, slot.cols);
    return;
  }
  const int64_t half = slot.rows / 2;
  if (slot.is_interleaved) {
    write_part(executor, slot, held, slot.data, half, begin / 2, count / 2, rows, 2 * slot.cols);
    write_part(executor, slot, held, slot.up_data, half, begin / 2, count / 2, rows + row_bytes,
               2 * slot.cols);
    return;
  }
  const int64_t of_gate = std::clamp<int64_t>(half - begin, 0, count);
  write_part(executor, slot, held, slot.data, half, begin, of_gate, rows, slot.cols);
  write_part(executor, slot, held, slot.up_data, half, std::max<int64_t>(0, begin - half),
             count - of_gate, rows + of_gate * row_bytes, slot.cols);
}

void zero_matrix(DeviceExecutor& executor, const MatrixSlot& slot, const HeldFormat& held) {
  const int64_t row_bytes = code_row_bytes(held.format.code, slot.cols);
  const int64_t at_once = std::min(chunk_rows(executor, slot, row_bytes), slot.rows);
  const std::vector<uint8_t> zeros(static_cast<size_t>(at_once * row_bytes));
  for_chunks(executor, slot, row_bytes, [&](int64_t begin, int64_t count) {
    write_rows(executor, slot, held, begin, count, zeros.data());
  });
}

}  // namespace sparse_experts::engine
