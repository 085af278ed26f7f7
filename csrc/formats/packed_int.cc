// compressed-tensors "pack-quantized": integers of 2, 4 or 8 bits in words of 32, along the columns.
#include <algorithm>

#include "core/numeric.h"
#include "formats/groups.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

uint64_t packed_int_bytes(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  if (source.bits != 2 && source.bits != 4 && source.bits != 8) return 0;
  int64_t words = 0;
  int64_t bytes = 0;
  if (!checked_multiply(rows, ceil_div(cols, 32 / source.bits), &words) ||
      !checked_multiply(words, 4, &bytes)) {
    return 0;
  }
  return static_cast<uint64_t>(bytes);
}

Status check_zero_point(const EncodedMatrix& source, const CheckedMatrix& matrix) {
  if (source.zero_point.bytes == 0) return Status::ok();
  if (source.block_rows != 1) return Status::invalid("zero points need scales per row");
  return check_span("zero point", source.zero_point, types_of({StoredType::kI32}),
                    ceil_div(matrix.rows, 32 / source.bits), matrix.grid_cols);
}

// Column of the tile behind the last one that shares the group of column j.
int64_t end_of_group(const CheckedMatrix& matrix, const Tile& tile, int64_t j) {
  if (!matrix.group_index.empty()) return j + 1;
  const int64_t block_cols = matrix.source->block_cols;
  const int64_t left = block_cols - (tile.col + j) % block_cols;
  return left < tile.cols - j ? j + left : tile.cols;
}

void decode_packed_int_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const int32_t bits = source.bits;
  const int32_t word_shift = bits == 2 ? 4 : bits == 4 ? 3 : 2;
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

bool packed_int_canonical(const EncodedMatrix& source, int64_t rows, int64_t cols,
                          SeMatrixFormat* format) {
  return canonical_integers(source, format) && canonical_grid(source, rows, cols, format);
}

void read_packed_int_rows(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                          const CanonicalTarget& to) {
  const EncodedMatrix& source = *matrix.source;
  const int32_t bits = source.bits;
  const int64_t per_word = 32 / bits;
  const uint32_t mask = (uint32_t{1} << bits) - 1;
  const uint8_t flip = byte_flip(bits);
  const int64_t cols = matrix.cols;
  const int64_t words_per_row = ceil_div(cols, per_word);
  for (int64_t i = 0; i < num_rows; ++i) {
    const uint8_t* words = source.data.data + (row + i) * words_per_row * 4;
    uint8_t* codes = to.codes + i * cols;
    int64_t col = 0;
    for (; bits == 4 && col + per_word <= cols; col += per_word) {
      const uint64_t eight = spread_nibbles(load_u32(words + col / 2));
      std::memcpy(codes + col, &eight, sizeof eight);
    }
    while (col < cols) {
      uint32_t word = load_u32(words + col / per_word * 4);
      for (const int64_t end = std::min(col + per_word, cols); col < end; ++col, word >>= bits)
        codes[col] = static_cast<uint8_t>(word & mask) ^ flip;
    }
  }
  copy_grid_scales(matrix, row, num_rows, to.scales);
  if (source.zero_point.bytes == 0) return;
  const int64_t groups = matrix.grid_cols;
  for (int64_t i = 0; i < num_rows; ++i) {
    const int64_t r = row + i;
    const uint8_t* zeros = source.zero_point.data + r / per_word * groups * 4;
    for (int64_t group = 0; group < groups; ++group)
      to.offsets[i * groups + group] =
          static_cast<uint8_t>(load_u32(zeros + group * 4) >> (r % per_word * bits) & mask) ^ flip;
  }
}

}  // namespace

const StoredFormat kPackedIntFormat = {packed_int_bytes, check_zero_point, decode_packed_int_tile,
                                       packed_int_canonical, read_packed_int_rows};

}  // namespace sparse_experts::decode_detail
