// Matrices of a layer: rows as they are, dense.
#include "cuda/runtime/matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/matrix_format.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// Rows that are gathered before a copy: long enough that its start costs nothing.
constexpr int64_t kGatherBytes = int64_t{8} << 20;

}  // namespace

Status write_matrix(SeDevice& device, const SeMatrixRows& rows) {
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
