// compressed-tensors "int-quantized": one signed byte per element.
#include <cstring>

#include "formats/groups.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

uint64_t int8_bytes(const EncodedMatrix&, int64_t rows, int64_t cols) {
  return static_cast<uint64_t>(rows * cols);
}

Status check_zero_point(const EncodedMatrix& source, const CheckedMatrix& matrix) {
  if (source.zero_point.bytes == 0) return Status::ok();
  return check_span("zero point", source.zero_point, types_of({StoredType::kI8}), matrix.grid_rows,
                    matrix.grid_cols);
}

void decode_int8_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const int64_t block_cols = source.block_cols;
  for (int64_t i = 0; i < tile.rows; ++i) {
    const int64_t row = tile.row + i;
    const uint8_t* from = source.data.data + row * matrix.cols + tile.col;
    const int64_t grid = row / source.block_rows * matrix.grid_cols;
    float* to = tile.out + i * tile.stride;
    for (int64_t j = 0; j < tile.cols;) {
      const int64_t block = grid + group_of(matrix, tile.col + j);
      int64_t end = j + 1;
      if (matrix.group_index.empty()) {
        const int64_t left = block_cols - (tile.col + j) % block_cols;
        end = left < tile.cols - j ? j + left : tile.cols;
      }
      const float scale = matrix.scales[static_cast<size_t>(block)];
      const int32_t zero =
          source.zero_point.bytes == 0 ? 0 : static_cast<int8_t>(source.zero_point.data[block]);
      for (; j < end; ++j) to[j] = scaled(static_cast<int8_t>(from[j]) - zero, scale);
    }
  }
}

bool int8_canonical(const EncodedMatrix& source, int64_t rows, int64_t cols,
                    SeMatrixFormat* format) {
  format->code = SE_CODE_I8;
  format->offset = source.zero_point.bytes > 0 ? SE_OFFSET_ZERO : SE_OFFSET_NONE;
  return canonical_grid(source, rows, cols, format);
}

void read_int8_rows(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                    const CanonicalTarget& to) {
  const EncodedMatrix& source = *matrix.source;
  std::memcpy(to.codes, source.data.data + row * matrix.cols,
              static_cast<size_t>(num_rows * matrix.cols));
  copy_grid_scales(matrix, row, num_rows, to.scales);
  if (source.zero_point.bytes == 0) return;
  const int64_t groups = matrix.grid_cols;
  for (int64_t i = 0; i < num_rows; ++i)
    std::memcpy(to.offsets + i * groups,
                source.zero_point.data + (row + i) / source.block_rows * groups,
                static_cast<size_t>(groups));
}

}  // namespace

const StoredFormat kInt8Format = {int8_bytes, check_zero_point, decode_int8_tile, int8_canonical,
                                  read_int8_rows};

}  // namespace sparse_experts::decode_detail
