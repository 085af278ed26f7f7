// Decoding: check, then tile by tile into f32, then one rounding to the output dtype.
#include "formats/decode.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "core/dtype.h"
#include "core/numeric.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts {
namespace {

using decode_detail::CheckedMatrix;
using decode_detail::kTileCols;
using decode_detail::kTileRows;
using decode_detail::Tile;

void multiply_columns(const CheckedMatrix& matrix, const Tile& tile) {
  const float* scales = matrix.column_scale.data() + tile.col;
  for (int64_t i = 0; i < tile.rows; ++i) {
    float* to = tile.out + i * tile.stride;
    for (int64_t j = 0; j < tile.cols; ++j) to[j] *= scales[j];
  }
}

void copy_tile(const Tile& tile, float* out, int64_t stride) {
  for (int64_t i = 0; i < tile.rows; ++i) {
    std::memcpy(out + (tile.row + i) * stride + tile.col, tile.out + i * tile.stride,
                static_cast<size_t>(tile.cols) * sizeof(float));
  }
}

void round_tile(const Tile& tile, int32_t dtype, uint16_t* out, int64_t stride) {
  for (int64_t i = 0; i < tile.rows; ++i) {
    const float* from = tile.out + i * tile.stride;
    uint16_t* to = out + (tile.row + i) * stride + tile.col;
    if (dtype == SE_BF16) {
      for (int64_t j = 0; j < tile.cols; ++j) to[j] = encode_bf16(from[j]);
    } else {
      for (int64_t j = 0; j < tile.cols; ++j) to[j] = encode_f16(from[j]);
    }
  }
}

void copy_rows(const CheckedMatrix& matrix, int32_t dtype, uint8_t* out, int64_t stride) {
  const int64_t element = dtype_bytes(dtype);
  const int64_t row_bytes = matrix.cols * element;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    std::memcpy(out + row * stride * element, matrix.source->data.data + row * row_bytes,
                static_cast<size_t>(row_bytes));
  }
}

Status check_output(int64_t rows, int64_t cols, int32_t dtype, const void* out, int64_t stride) {
  if (!is_float_dtype(dtype)) return Status::invalid("weights are f32, f16 or bf16");
  if (out == nullptr) return Status::invalid("no output");
  int64_t elements = 0;
  int64_t bytes = 0;
  if (stride < cols || !checked_multiply(rows, stride, &elements) ||
      !checked_multiply(elements, dtype_bytes(dtype), &bytes)) {
    return Status::invalid("rows of " + std::to_string(cols) + " do not fit the row stride " +
                           std::to_string(stride));
  }
  return Status::ok();
}

}  // namespace

bool is_plain(const EncodedMatrix& source, int32_t dtype) {
  return source.codec == Codec::kFloat && !source.transposed && source.block_rows == 0 &&
         source.block_cols == 0 && source.column_scale.bytes == 0 && is_float_dtype(dtype) &&
         source.data.type == stored_type_of(dtype);
}

Status decode_matrix(const EncodedMatrix& source, int64_t rows, int64_t cols, int32_t out_dtype,
                     void* out, int64_t out_row_stride) try {
  CheckedMatrix matrix;
  Status status = decode_detail::check_matrix(source, rows, cols, &matrix);
  if (!status.is_ok()) return status;
  status = check_output(rows, cols, out_dtype, out, out_row_stride);
  if (!status.is_ok()) return status;

  if (is_plain(source, out_dtype)) {
    copy_rows(matrix, out_dtype, static_cast<uint8_t*>(out), out_row_stride);
    return Status::ok();
  }

  const decode_detail::StoredFormat& format = *decode_detail::stored_format(source.codec);
  std::array<float, kTileRows * kTileCols> values;
  for (int64_t row = 0; row < rows; row += kTileRows) {
    for (int64_t col = 0; col < cols; col += kTileCols) {
      Tile tile;
      tile.row = row;
      tile.col = col;
      tile.rows = std::min(kTileRows, rows - row);
      tile.cols = std::min(kTileCols, cols - col);
      tile.out = values.data();
      tile.stride = kTileCols;
      format.decode_tile(matrix, tile);
      if (!matrix.column_scale.empty()) multiply_columns(matrix, tile);
      if (out_dtype == SE_F32) {
        copy_tile(tile, static_cast<float*>(out), out_row_stride);
      } else {
        round_tile(tile, out_dtype, static_cast<uint16_t*>(out), out_row_stride);
      }
    }
  }
  return Status::ok();
} catch (const std::bad_alloc&) {
  return Status::out_of_memory(source.scale.bytes * sizeof(float) + source.group_index.bytes +
                                   static_cast<uint64_t>(cols) * sizeof(float),
                               0);
}

}  // namespace sparse_experts
