#include "binding/store_matrix.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "binding/device_memory.h"
#include "core/decode.h"
#include "core/dtype.h"

namespace sparse_experts::binding {
namespace {

// Rows that are converted at a time: in cache on the host; to a device long enough that a copy's
// start costs nothing.
constexpr int64_t kHostBytes = int64_t{1} << 20;
constexpr int64_t kDeviceBytes = int64_t{8} << 20;

int64_t rows_at_once(const DeviceExecutor& executor, int64_t row_bytes, int64_t rows) {
  const int64_t bytes = executor.has_host_memory() ? kHostBytes : kDeviceBytes;
  return std::min(rows, std::max<int64_t>(1, bytes / row_bytes));
}

StoredType stored_type(int32_t dtype) {
  if (dtype == SE_F32) return StoredType::kF32;
  return dtype == SE_F16 ? StoredType::kF16 : StoredType::kBF16;
}

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

void store_matrix(DeviceExecutor& executor, const StridedSource& source, const MatrixSlot& slot,
                  int32_t dtype) {
  const int64_t row_bytes = slot.cols * dtype_bytes(source.dtype);
  const int64_t element_bytes = dtype_bytes(dtype);
  const int64_t at_once = rows_at_once(executor, row_bytes, slot.rows);
  std::vector<uint8_t> rows(static_cast<size_t>(at_once * row_bytes));
  std::vector<uint8_t> converted;
  if (!executor.has_host_memory()) {
    converted.resize(static_cast<size_t>(at_once * slot.cols * element_bytes));
  }
  for (int64_t begin = 0; begin < slot.rows; begin += at_once) {
    const int64_t count = std::min(at_once, slot.rows - begin);
    gather_rows(source, begin, count, slot.cols, rows.data());
    EncodedMatrix matrix;
    matrix.data = {rows.data(), static_cast<uint64_t>(count * row_bytes),
                   stored_type(source.dtype)};
    const bool is_direct = executor.has_host_memory();
    uint8_t* to =
        is_direct ? slot.data + begin * slot.row_stride * element_bytes : converted.data();
    const int64_t stride = is_direct ? slot.row_stride : slot.cols;
    throw_if_failed(Failure::from(decode_matrix(matrix, count, slot.cols, dtype, to, stride)));
    if (!is_direct) write_rows(executor, slot, element_bytes, begin, count, converted.data());
  }
}

void write_rows(DeviceExecutor& executor, const MatrixSlot& slot, int64_t element_bytes,
                int64_t begin, int64_t count, const uint8_t* rows) {
  const int64_t row_bytes = slot.cols * element_bytes;
  uint8_t* to = slot.data + begin * slot.row_stride * element_bytes;
  if (slot.row_stride == slot.cols) {
    copy_to_device(executor, to, rows, static_cast<uint64_t>(count * row_bytes));
    return;
  }
  for (int64_t row = 0; row < count; ++row) {
    copy_to_device(executor, to + row * slot.row_stride * element_bytes, rows + row * row_bytes,
                   static_cast<uint64_t>(row_bytes));
  }
}

void zero_matrix(DeviceExecutor& executor, const MatrixSlot& slot, int64_t element_bytes) {
  const int64_t row_bytes = slot.cols * element_bytes;
  const int64_t at_once = rows_at_once(executor, row_bytes, slot.rows);
  const std::vector<uint8_t> zeros(static_cast<size_t>(at_once * row_bytes));
  for (int64_t begin = 0; begin < slot.rows; begin += at_once) {
    write_rows(executor, slot, element_bytes, begin, std::min(at_once, slot.rows - begin),
               zeros.data());
  }
}

}  // namespace sparse_experts::binding
