// AWQ: 4 bit, input-major, eight outputs to a word in an order of their own; Quark's signed integers
// in the same order.
#include <array>

#include "formats/groups.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

// Nibble of the word that holds logical column 8c + j.
constexpr std::array<int32_t, 8> kAwqNibble = {0, 4, 1, 5, 2, 6, 3, 7};

uint64_t awq_bytes(const EncodedMatrix&, int64_t rows, int64_t cols) {
  return rows % 8 == 0 ? static_cast<uint64_t>(rows * cols / 2) : 0;
}

Status check_zero_point(const EncodedMatrix& source, const CheckedMatrix& matrix) {
  if (source.zero_point.bytes == 0) return Status::ok();
  return check_span("zero point", source.zero_point, types_of({StoredType::kI32}), matrix.grid_cols,
                    matrix.rows / 8);
}

// Flipping the sign of two's complement counts from -8: q - zero is the same.
uint32_t flip_of(const EncodedMatrix& source) { return source.is_signed ? 0x88888888u : 0; }

void decode_awq_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const int64_t words_per_line = matrix.rows / 8;
  const uint32_t flipped = flip_of(source);
  const bool has_zeros = source.zero_point.bytes > 0;
  for (int64_t j = 0; j < tile.cols; ++j) {
    const int64_t col = tile.col + j;
    const int64_t group = group_of(matrix, col);
    const uint8_t* words = source.data.data + col * words_per_line * 4;
    const uint8_t* zeros =
        has_zeros ? source.zero_point.data + group * words_per_line * 4 : nullptr;
    const float* scales = matrix.scales.data() + group * matrix.rows;
    for (int64_t i = 0; i < tile.rows; i += 8) {
      const int64_t row = tile.row + i;
      const uint32_t word = load_u32(words + row / 8 * 4) ^ flipped;
      const uint32_t zero_word = has_zeros ? load_u32(zeros + row / 8 * 4) ^ flipped : 0x88888888u;
      for (int64_t n = 0; n < 8; ++n) {
        const int32_t shift = 4 * kAwqNibble[static_cast<size_t>(n)];
        const auto q = static_cast<int32_t>(word >> shift & 15);
        const auto zero = static_cast<int32_t>(zero_word >> shift & 15);
        tile.out[(i + n) * tile.stride + j] = scaled(q - zero, scales[row + n]);
      }
    }
  }
}

bool awq_canonical(const EncodedMatrix& source, int64_t rows, int64_t cols,
                   SeMatrixFormat* format) {
  format->code = SE_CODE_U4;
  const bool has_zeros = source.zero_point.bytes > 0;
  format->table = has_zeros ? SE_TABLE_Q : SE_TABLE_Q8;
  format->offset = has_zeros ? SE_OFFSET_ZERO : SE_OFFSET_NONE;
  return canonical_grid(source, rows, cols, format);
}

// Outputs lie eight to a word: those of one line from `row` on, `stride` bytes apart.
void read_line(const uint8_t* words, uint32_t flipped, int64_t row, int64_t num_rows, uint8_t* to,
               int64_t stride) {
  int64_t i = 0;
  for (; row % 8 == 0 && i + 8 <= num_rows; i += 8) {
    const uint32_t word = load_u32(words + (row + i) / 8 * 4) ^ flipped;
    for (size_t n = 0; n < 8; ++n)
      to[(i + static_cast<int64_t>(n)) * stride] =
          static_cast<uint8_t>(word >> (4 * kAwqNibble[n]) & 15);
  }
  for (; i < num_rows; ++i) {
    const int64_t r = row + i;
    const int32_t shift = 4 * kAwqNibble[static_cast<size_t>(r % 8)];
    to[i * stride] = static_cast<uint8_t>((load_u32(words + r / 8 * 4) ^ flipped) >> shift & 15);
  }
}

void read_awq_rows(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                   const CanonicalTarget& to) {
  const EncodedMatrix& source = *matrix.source;
  const int64_t line_bytes = matrix.rows / 2;
  const uint32_t flipped = flip_of(source);
  read_by_columns(num_rows, matrix.cols, to.codes,
                  [&](int64_t col, int64_t first, int64_t count, uint8_t* codes, int64_t stride) {
                    read_line(source.data.data + col * line_bytes, flipped, row + first, count,
                              codes, stride);
                  });
  copy_grid_scales(matrix, row, num_rows, to.scales);
  if (source.zero_point.bytes == 0) return;
  const int64_t groups = matrix.grid_cols;
  for (int64_t group = 0; group < groups; ++group)
    read_line(source.zero_point.data + group * line_bytes, flipped, row, num_rows,
              to.offsets + group, groups);
}

}  // namespace

const StoredFormat kAwqFormat = {awq_bytes, check_zero_point, decode_awq_tile, awq_canonical,
                                 read_awq_rows};

}  // namespace sparse_experts::decode_detail
