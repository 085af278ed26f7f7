// GPTQ: 2, 3, 4 or 8 bit, input-major, the inputs in plain order without gaps between words; columns
// may be grouped in any order.
#include <string>

#include "formats/groups.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

bool is_width(int32_t bits) { return (bits >= 2 && bits <= 4) || bits == 8; }

// Whether `count` elements fill whole words.
bool fills_words(int64_t count, int32_t bits) { return count % 32 * bits % 32 == 0; }

uint64_t gptq_bytes(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  if (!is_width(source.bits) || !fills_words(cols, source.bits)) return 0;
  const int64_t words = cols / 32 * source.bits + cols % 32 * source.bits / 32;
  return static_cast<uint64_t>(words * rows * 4);
}

Status check_zero_point(const EncodedMatrix& source, const CheckedMatrix& matrix) {
  if (source.zero_point.bytes == 0) return Status::ok();
  if (!fills_words(matrix.rows, source.bits)) {
    return Status::invalid("zero points of " + std::to_string(matrix.rows) + " rows fill no words");
  }
  return check_span("zero point", source.zero_point, types_of({StoredType::kI32}), matrix.grid_cols,
                    matrix.rows * source.bits / 32);
}

// Element `index` of elements that lie in words without gaps, the first in the lowest bits; `stride`
// bytes lead from a word to the next.
uint32_t element_at(const uint8_t* words, int64_t stride, int64_t index, int32_t bits) {
  const int64_t bit = index * bits;
  const uint8_t* word = words + bit / 32 * stride;
  const auto shift = static_cast<uint32_t>(bit % 32);
  uint32_t value = load_u32(word) >> shift;
  if (shift + static_cast<uint32_t>(bits) > 32) value |= load_u32(word + stride) << (32 - shift);
  return value & ((uint32_t{1} << bits) - 1);
}

// Zero points of a group, [rows]. The format "gptq" stores them less one: its writer takes 0x11...1
// from the whole word, where a zero point of 0 borrows from its neighbour. Three bits cross words.
int32_t zero_of(const EncodedMatrix& source, const uint8_t* zeros, int64_t row) {
  const int32_t bits = source.bits;
  const uint32_t mask = (uint32_t{1} << bits) - 1;
  if (zeros == nullptr) return static_cast<int32_t>(mask / 2 + 1);
  if (source.zero_offset == 0) return static_cast<int32_t>(element_at(zeros, 4, row, bits));
  if (bits == 3) return static_cast<int32_t>((element_at(zeros, 4, row, bits) + 1) & mask);
  const int64_t per_word = 32 / bits;
  const uint32_t word = load_u32(zeros + row / per_word * 4) + 0xffffffffu / mask;
  return static_cast<int32_t>(word >> (row % per_word * bits) & mask);
}

void decode_gptq_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const int32_t bits = source.bits;
  const int64_t zero_words = matrix.rows * bits / 32;
  for (int64_t j = 0; j < tile.cols; ++j) {
    const int64_t col = tile.col + j;
    const int64_t group = group_of(matrix, col);
    const float* scales = matrix.scales.data() + group * matrix.rows;
    const uint8_t* zeros =
        source.zero_point.bytes == 0 ? nullptr : source.zero_point.data + group * zero_words * 4;
    for (int64_t i = 0; i < tile.rows; ++i) {
      const int64_t row = tile.row + i;
      const auto q =
          static_cast<int32_t>(element_at(source.data.data + row * 4, matrix.rows * 4, col, bits));
      tile.out[i * tile.stride + j] = scaled(q - zero_of(source, zeros, row), scales[row]);
    }
  }
}

bool gptq_canonical(const EncodedMatrix& source, int64_t rows, int64_t cols,
                    SeMatrixFormat* format) {
  return canonical_integers(source, format) && canonical_grid(source, rows, cols, format);
}

void read_gptq_rows(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                    const CanonicalTarget& to) {
  const EncodedMatrix& source = *matrix.source;
  const int32_t bits = source.bits;
  const uint8_t flip = byte_flip(bits);
  const int64_t line_bytes = matrix.rows * 4;
  read_by_columns(num_rows, matrix.cols, to.codes,
                  [&](int64_t col, int64_t first, int64_t count, uint8_t* codes, int64_t stride) {
                    const uint8_t* words = source.data.data + (row + first) * 4;
                    if (bits == 3) {
                      for (int64_t i = 0; i < count; ++i)
                        codes[i * stride] =
                            static_cast<uint8_t>(element_at(words + i * 4, line_bytes, col, bits));
                      return;
                    }
                    // Other widths never cross from one word to the next.
                    const uint32_t mask = (uint32_t{1} << bits) - 1;
                    const auto shift = static_cast<uint32_t>(col * bits % 32);
                    words += col * bits / 32 * line_bytes;
                    for (int64_t i = 0; i < count; ++i)
                      codes[i * stride] =
                          static_cast<uint8_t>(load_u32(words + i * 4) >> shift & mask) ^ flip;
                  });
  copy_grid_scales(matrix, row, num_rows, to.scales);
  if (source.zero_point.bytes == 0) return;
  const int64_t groups = matrix.grid_cols;
  for (int64_t group = 0; group < groups; ++group) {
    const uint8_t* zeros = source.zero_point.data + group * (matrix.rows * bits / 32) * 4;
    for (int64_t i = 0; i < num_rows; ++i)
      to.offsets[i * groups + group] = static_cast<uint8_t>(zero_of(source, zeros, row + i)) ^ flip;
  }
}

}  // namespace

const StoredFormat kGptqFormat = {gptq_bytes, check_zero_point, decode_gptq_tile, gptq_canonical,
                                  read_gptq_rows};

}  // namespace sparse_experts::decode_detail
