// Private to formats/*.cc: groups of columns that share a scale and a zero point.
// NOTE: never include this from cpu/isa/ (see core/dtype.h).
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {

inline int64_t group_of(const CheckedMatrix& matrix, int64_t col) {
  return matrix.group_index.empty() ? col / matrix.source->block_cols
                                    : matrix.group_index[static_cast<size_t>(col)];
}

// The difference is exact; the product is the one rounding.
inline float scaled(int32_t difference, float scale) {
  return static_cast<float>(difference) * scale;
}

// Unsigned integers of 2, 3, 4 or 8 bits whose zero point is stored or the middle: code, table and
// offset of their canonical form. Those of 8 bits are held as signed bytes, 128 less.
inline bool canonical_integers(const EncodedMatrix& source, SeMatrixFormat* format) {
  const bool has_zero = source.zero_point.bytes > 0;
  format->offset = has_zero ? SE_OFFSET_ZERO : SE_OFFSET_NONE;
  switch (source.bits) {
    case 2:
      format->code = SE_CODE_U2;
      format->table = has_zero ? SE_TABLE_Q : SE_TABLE_Q2;
      return true;
    case 3:
      format->code = SE_CODE_U3;
      format->table = has_zero ? SE_TABLE_Q : SE_TABLE_Q4;
      return true;
    case 4:
      format->code = SE_CODE_U4;
      format->table = has_zero ? SE_TABLE_Q : SE_TABLE_Q8;
      return true;
    case 8:
      format->code = SE_CODE_I8;
      return true;
    default:
      return false;
  }
}

// Eight nibbles, the lowest first, as bytes.
inline uint64_t spread_nibbles(uint32_t nibbles) {
  uint64_t spread = nibbles;
  spread = (spread | spread << 16) & 0x0000ffff0000ffff;
  spread = (spread | spread << 8) & 0x00ff00ff00ff00ff;
  return (spread | spread << 4) & 0x0f0f0f0f0f0f0f0f;
}

// Codes of a matrix that lies by columns. read(col, first, count, to, stride) writes those of rows
// [first, first + count) of one column, `stride` bytes apart. Goes by tiles that stay in cache:
// rows are often a multiple of 4 KiB apart, and a column of them competes for a few lines of it.
template <typename Read>
void read_by_columns(int64_t num_rows, int64_t cols, uint8_t* codes, const Read& read) {
  constexpr int64_t kRows = 64;
  constexpr int64_t kCols = 64;
  std::array<uint8_t, kRows * kCols> tile;
  for (int64_t row = 0; row < num_rows; row += kRows) {
    const int64_t rows = std::min(kRows, num_rows - row);
    for (int64_t col = 0; col < cols; col += kCols) {
      const int64_t count = std::min(kCols, cols - col);
      for (int64_t c = 0; c < count; ++c) read(col + c, row, rows, tile.data() + c, kCols);
      for (int64_t r = 0; r < rows; ++r)
        std::memcpy(codes + (row + r) * cols + col, tile.data() + r * kCols,
                    static_cast<size_t>(count));
    }
  }
}

// What turns an unsigned integer or zero point into the canonical one.
inline uint8_t byte_flip(int32_t bits) { return bits == 8 ? 0x80 : 0; }

}  // namespace sparse_experts::decode_detail
