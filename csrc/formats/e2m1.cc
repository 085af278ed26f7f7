// e2m1: 4-bit floats, two per byte (MXFP4, NVFP4, DeepSeek-V4's fp4), in rows or transposed.
#include <array>

#include "formats/groups.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

uint64_t e2m1_bytes(const EncodedMatrix&, int64_t rows, int64_t cols) {
  return cols % 2 == 0 ? static_cast<uint64_t>(rows * cols / 2) : 0;
}

void decode_rows(const CheckedMatrix& matrix, const Tile& tile) {
  const int64_t block_rows = matrix.source->block_rows;
  const int64_t block_cols = matrix.source->block_cols;
  std::array<float, 16> products{};
  for (int64_t i = 0; i < tile.rows; ++i) {
    const int64_t row = tile.row + i;
    const uint8_t* bytes = matrix.source->data.data + row * (matrix.cols / 2);
    const float* scales = matrix.scales.data() + row / block_rows * matrix.grid_cols;
    float* to = tile.out + i * tile.stride;
    for (int64_t j = 0; j < tile.cols;) {
      const int64_t col = tile.col + j;
      const float scale = scales[col / block_cols];
      const int64_t left = block_cols - col % block_cols;
      const int64_t end = left < tile.cols - j ? j + left : tile.cols;
      for (size_t code = 0; code < products.size(); ++code) {
        products[code] = kE2M1Values[code] * scale;
      }
      for (; j < end; ++j) {
        const uint8_t byte = bytes[(tile.col + j) / 2];
        to[j] = products[(tile.col + j) % 2 != 0 ? byte >> 4 : byte & 15];
      }
    }
  }
}

// Two columns to a byte, and the grid of scales transposed as the elements are.
void decode_transposed(const CheckedMatrix& matrix, const Tile& tile) {
  const int64_t block_rows = matrix.source->block_rows;
  const int64_t block_cols = matrix.source->block_cols;
  for (int64_t j = 0; j < tile.cols; ++j) {
    const int64_t col = tile.col + j;
    const uint8_t* bytes = matrix.source->data.data + col / 2 * matrix.rows + tile.row;
    const float* scales = matrix.scales.data() + col / block_cols * matrix.grid_rows;
    for (int64_t i = 0; i < tile.rows; ++i) {
      const uint8_t byte = bytes[i];
      const float scale = scales[(tile.row + i) / block_rows];
      tile.out[i * tile.stride + j] = kE2M1Values[col % 2 != 0 ? byte >> 4 : byte & 15] * scale;
    }
  }
}

void decode_e2m1_tile(const CheckedMatrix& matrix, const Tile& tile) {
  return matrix.source->transposed ? decode_transposed(matrix, tile) : decode_rows(matrix, tile);
}

bool e2m1_canonical(const EncodedMatrix& source, int64_t rows, int64_t cols,
                    SeMatrixFormat* format) {
  format->code = SE_CODE_U4;
  format->table = SE_TABLE_E2M1;
  return canonical_grid(source, rows, cols, format);
}

void read_e2m1_rows(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                    const CanonicalTarget& to) {
  const int64_t cols = matrix.cols;
  const uint8_t* data = matrix.source->data.data;
  if (matrix.source->transposed) {
    read_by_columns(num_rows, cols, to.codes,
                    [&](int64_t col, int64_t first, int64_t count, uint8_t* codes, int64_t stride) {
                      const uint8_t* from = data + col / 2 * matrix.rows + row + first;
                      const int shift = col % 2 != 0 ? 4 : 0;
                      for (int64_t i = 0; i < count; ++i)
                        codes[i * stride] = static_cast<uint8_t>(from[i] >> shift & 15);
                    });
  } else {
    const uint8_t* from = data + row * (cols / 2);
    const int64_t num_bytes = num_rows * cols / 2;
    int64_t i = 0;
    for (; i + 4 <= num_bytes; i += 4) {
      const uint64_t eight = spread_nibbles(load_u32(from + i));
      std::memcpy(to.codes + 2 * i, &eight, sizeof eight);
    }
    for (; i < num_bytes; ++i) {
      to.codes[2 * i] = from[i] & 15;
      to.codes[2 * i + 1] = static_cast<uint8_t>(from[i] >> 4);
    }
  }
  copy_grid_scales(matrix, row, num_rows, to.scales);
}

}  // namespace

const StoredFormat kE2M1Format = {e2m1_bytes, nullptr, decode_e2m1_tile, e2m1_canonical,
                                  read_e2m1_rows};

}  // namespace sparse_experts::decode_detail
