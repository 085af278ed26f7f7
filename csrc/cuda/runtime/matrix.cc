// Matrices of a layer: rows of floats as they are, dense; codes in the layout of the kernels that
// multiply by them.
#include "cuda/runtime/matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/matrix_format.h"
#include "core/numeric.h"
#include "cuda/layouts/pack_stored.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// Rows that are gathered before a copy: long enough that its start costs nothing.
constexpr int64_t kGatherBytes = int64_t{8} << 20;

// Whole units; the header goes with the first of the matrix.
Status write_codes(SeDevice& device, const SeMatrixRows& rows) {
  SE_RETURN_IF_ERROR(check_stored_rows(rows));
  const StoredLayout layout = stored_layout(rows.rows, rows.cols, *rows.format);
  const int64_t num_units = ceil_div(rows.num_rows, kUnitRows);
  const int64_t at_once = std::clamp<int64_t>(kGatherBytes / layout.unit_bytes, 1, num_units);
  std::vector<unsigned char> packed(
      static_cast<size_t>(kHeaderBytes + at_once * layout.unit_bytes));
  write_stored_header(rows, packed.data());
  unsigned char* const matrix = static_cast<unsigned char*>(rows.matrix);
  for (int64_t unit = 0; unit < num_units; unit += at_once) {
    const int64_t count = std::min(at_once, num_units - unit);
    for (int64_t i = 0; i < count; ++i)
      pack_stored_unit(layout, rows, (unit + i) * kUnitRows,
                       packed.data() + kHeaderBytes + i * layout.unit_bytes);
    const int64_t at = rows.first_row / kUnitRows + unit;
    const int64_t skipped = at == 0 ? 0 : kHeaderBytes;
    SE_RETURN_IF_ERROR(device.copier().to_device(
        matrix + (at == 0 ? 0 : kHeaderBytes + at * layout.unit_bytes), packed.data() + skipped,
        static_cast<uint64_t>(kHeaderBytes - skipped + count * layout.unit_bytes)));
  }
  return Status::ok();
}

}  // namespace

Status write_matrix(SeDevice& device, const SeMatrixRows& rows) {
  if (!is_float_format(*rows.format)) return write_codes(device, rows);
  const int64_t row_bytes = code_row_bytes(rows.format->code, rows.cols);
  const int64_t stride_bytes = code_row_bytes(rows.format->code, rows.source_stride);
  const char* from = static_cast<const char*>(rows.source);
  char* to = static_cast<char*>(rows.matrix) + rows.first_row * row_bytes;
  if (rows.is_pinned != 0) {
    for (int64_t row = 0; row < rows.num_rows; ++row)
      std::memcpy(to + row * row_bytes, from + row * stride_bytes, static_cast<size_t>(row_bytes));
    return Status::ok();
  }
  if (stride_bytes == row_bytes)
    return device.copier().to_device(to, from, static_cast<uint64_t>(rows.num_rows * row_bytes));
  const int64_t at_once =
      std::clamp<int64_t>(kGatherBytes / std::max<int64_t>(1, row_bytes), 1, rows.num_rows);
  std::vector<char> dense(static_cast<size_t>(at_once * row_bytes));
  for (int64_t row = 0; row < rows.num_rows; row += at_once) {
    const int64_t count = std::min(at_once, rows.num_rows - row);
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(dense.data() + i * row_bytes, from + (row + i) * stride_bytes,
                  static_cast<size_t>(row_bytes));
    SE_RETURN_IF_ERROR(device.copier().to_device(to + row * row_bytes, dense.data(),
                                                 static_cast<uint64_t>(count * row_bytes)));
  }
  return Status::ok();
}

}  // namespace sparse_experts::cuda
