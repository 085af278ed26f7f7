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

// One row of a tile, rounded to the output's dtype.
void round_row(const float* from, int64_t count, int32_t dtype, uint8_t* out) {
  if (dtype == SE_F32) {
    std::memcpy(out, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  auto* to = reinterpret_cast<uint16_t*>(out);
  if (dtype == SE_BF16) {
    for (int64_t j = 0; j < count; ++j) to[j] = encode_bf16(from[j]);
  } else {
    for (int64_t j = 0; j < count; ++j) to[j] = encode_f16(from[j]);
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

namespace decode_detail {

void decode_rows(const CheckedMatrix& matrix, const RowRun& run, int32_t dtype, void* out,
                 int64_t stride) {
  auto* to = static_cast<uint8_t*>(out);
  const int64_t element = dtype_bytes(dtype);
  if (is_plain(*matrix.source, dtype)) {
    const int64_t row_bytes = matrix.cols * element;
    for (int64_t i = 0; i < run.count; ++i) {
      std::memcpy(to + i * stride * element,
                  matrix.source->data.data + (run.first + i * run.step) * row_bytes,
                  static_cast<size_t>(row_bytes));
    }
    return;
  }
  const StoredFormat& format = *stored_format(matrix.source->codec);
  std::array<float, kTileRows * kTileCols> values;
  for (int64_t i = 0; i < run.count;) {
    // Tiles begin at multiples of their height, because some formats pack rows.
    const int64_t first = run.first + i * run.step;
    Tile tile;
    tile.row = first / kTileRows * kTileRows;
    tile.rows = std::min(kTileRows, matrix.rows - tile.row);
    tile.out = values.data();
    tile.stride = kTileCols;
    const int64_t count =
        std::min(run.count - i, (tile.row + tile.rows - first + run.step - 1) / run.step);
    for (tile.col = 0; tile.col < matrix.cols; tile.col += kTileCols) {
      tile.cols = std::min(kTileCols, matrix.cols - tile.col);
      format.decode_tile(matrix, tile);
      if (!matrix.column_scale.empty()) multiply_columns(matrix, tile);
      for (int64_t n = 0; n < count; ++n) {
        round_row(tile.out + (first + n * run.step - tile.row) * kTileCols, tile.cols, dtype,
                  to + ((i + n) * stride + tile.col) * element);
      }
    }
    i += count;
  }
}

}  // namespace decode_detail

Status decode_matrix(const EncodedMatrix& source, int64_t rows, int64_t cols, int32_t out_dtype,
                     void* out, int64_t out_row_stride) try {
  CheckedMatrix matrix;
  SE_RETURN_IF_ERROR(decode_detail::check_matrix(source, rows, cols, &matrix));
  SE_RETURN_IF_ERROR(check_output(rows, cols, out_dtype, out, out_row_stride));
  decode_detail::decode_rows(matrix, {0, 1, rows}, out_dtype, out, out_row_stride);
  return Status::ok();
} catch (const std::bad_alloc&) {
  return Status::out_of_memory(source.scale.bytes * sizeof(float) + source.group_index.bytes +
                                   static_cast<uint64_t>(cols) * sizeof(float),
                               0);
}

}  // namespace sparse_experts
