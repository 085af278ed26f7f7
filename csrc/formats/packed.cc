// Tiles of packed integers: compressed-tensors, AWQ, GPTQ.
#include <array>

#include "core/numeric.h"
#include "formats/scalars.h"
#include "formats/tiles.h"

namespace sparse_experts::decode_detail {
namespace {

// Nibble of the word that holds logical column 8c + j.
constexpr std::array<int32_t, 8> kAwqNibble = {0, 4, 1, 5, 2, 6, 3, 7};

int64_t group_of(const CheckedMatrix& matrix, int64_t col) {
  return matrix.group_index.empty() ? col / matrix.source->block_cols
                                    : matrix.group_index[static_cast<size_t>(col)];
}

// Column of the tile behind the last one that shares the group of column j.
int64_t end_of_group(const CheckedMatrix& matrix, const Tile& tile, int64_t j) {
  if (!matrix.group_index.empty()) return j + 1;
  const int64_t block_cols = matrix.source->block_cols;
  const int64_t left = block_cols - (tile.col + j) % block_cols;
  return left < tile.cols - j ? j + left : tile.cols;
}

// The difference is exact; the product is the one rounding.
float scaled(int32_t difference, float scale) { return static_cast<float>(difference) * scale; }

}  // namespace

void decode_packed_int_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const int32_t bits = source.bits;
  const int32_t word_shift = bits == 4 ? 3 : 2;
  const int64_t per_word = int64_t{1} << word_shift;
  const int32_t mask = (1 << bits) - 1;
  const int64_t words_per_row = ceil_div(matrix.cols, per_word);
  for (int64_t i = 0; i < tile.rows; ++i) {
    const int64_t row = tile.row + i;
    const uint8_t* words = source.data.data + row * words_per_row * 4;
    const float* scales = matrix.scales.data() + row / source.block_rows * matrix.grid_cols;
    const uint8_t* zeros = nullptr;
    if (source.zero_point.bytes > 0) {
      zeros = source.zero_point.data + row / per_word * matrix.grid_cols * 4;
    }
    const auto zero_shift = static_cast<uint32_t>(row % per_word * bits);
    float* to = tile.out + i * tile.stride;
    for (int64_t j = 0; j < tile.cols;) {
      const int64_t group = group_of(matrix, tile.col + j);
      const int64_t end = end_of_group(matrix, tile, j);
      const float scale = scales[group];
      const int32_t zero =
          zeros == nullptr ? 1 << (bits - 1)
                           : static_cast<int32_t>(load_u32(zeros + group * 4) >> zero_shift) & mask;
      for (; j < end; ++j) {
        const int64_t col = tile.col + j;
        const uint32_t word = load_u32(words + (col >> word_shift) * 4);
        const auto q = static_cast<int32_t>(word >> ((col & (per_word - 1)) * bits)) & mask;
        to[j] = scaled(q - zero, scale);
      }
    }
  }
}

void decode_awq_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const int64_t words_per_line = matrix.rows / 8;
  for (int64_t j = 0; j < tile.cols; ++j) {
    const int64_t col = tile.col + j;
    const int64_t group = group_of(matrix, col);
    const uint8_t* words = source.data.data + col * words_per_line * 4;
    const uint8_t* zeros = source.zero_point.data + group * words_per_line * 4;
    const float* scales = matrix.scales.data() + group * matrix.rows;
    for (int64_t i = 0; i < tile.rows; i += 8) {
      const int64_t row = tile.row + i;
      const uint32_t word = load_u32(words + row / 8 * 4);
      const uint32_t zero_word = load_u32(zeros + row / 8 * 4);
      for (int64_t n = 0; n < 8; ++n) {
        const int32_t shift = 4 * kAwqNibble[static_cast<size_t>(n)];
        const auto q = static_cast<int32_t>(word >> shift & 15);
        const auto zero = static_cast<int32_t>(zero_word >> shift & 15);
        tile.out[(i + n) * tile.stride + j] = scaled(q - zero, scales[row + n]);
      }
    }
  }
}

void decode_gptq_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const int64_t words_per_line = matrix.rows / 8;
  for (int64_t j = 0; j < tile.cols; j += 8) {
    const uint8_t* words = source.data.data + (tile.col + j) / 8 * matrix.rows * 4;
    for (int64_t n = 0; n < 8; ++n) {
      const int64_t group = group_of(matrix, tile.col + j + n);
      const uint8_t* zeros = source.zero_point.data + group * words_per_line * 4;
      const float* scales = matrix.scales.data() + group * matrix.rows;
      for (int64_t i = 0; i < tile.rows; ++i) {
        const int64_t row = tile.row + i;
        const auto q = static_cast<int32_t>(load_u32(words + row * 4) >> (4 * n) & 15);
        const uint32_t zero_word = load_u32(zeros + row / 8 * 4);
        const auto stored = static_cast<int32_t>(zero_word >> (4 * (row % 8)) & 15);
        tile.out[i * tile.stride + j + n] = scaled(q - (stored + source.zero_offset), scales[row]);
      }
    }
  }
}

}  // namespace sparse_experts::decode_detail
