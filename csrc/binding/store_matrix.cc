#include "binding/store_matrix.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/decode.h"
#include "core/dtype.h"

namespace sparse_experts::binding {
namespace {

// Rows that setMatrix converts at a time.
constexpr uint64_t kConversionBytes = uint64_t{1} << 20;

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

void store_matrix(const StridedSource& source, const MatrixSlot& slot, int32_t dtype) {
  const int64_t row_bytes = slot.cols * dtype_bytes(source.dtype);
  const int64_t rows_at_once =
      std::max<int64_t>(1, static_cast<int64_t>(kConversionBytes) / row_bytes);
  std::vector<uint8_t> rows(static_cast<size_t>(std::min(rows_at_once, slot.rows) * row_bytes));
  for (int64_t begin = 0; begin < slot.rows; begin += rows_at_once) {
    const int64_t count = std::min(rows_at_once, slot.rows - begin);
    gather_rows(source, begin, count, slot.cols, rows.data());
    EncodedMatrix matrix;
    matrix.data = {rows.data(), static_cast<uint64_t>(count * row_bytes),
                   stored_type(source.dtype)};
    uint8_t* to = slot.data + begin * slot.row_stride * dtype_bytes(dtype);
    throw_if_failed(
        Failure::from(decode_matrix(matrix, count, slot.cols, dtype, to, slot.row_stride)));
  }
}

}  // namespace sparse_experts::binding
