// GPTQ: 2, 4 or 8 bit, input-major, the inputs of a word in plain order; columns may be grouped in any order.
#include "formats/groups.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

bool is_width(int32_t bits) { return bits == 2 || bits == 4 || bits == 8; }

uint64_t gptq_bytes(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  if (!is_width(source.bits)) return 0;
  const int64_t per_word = 32 / source.bits;
  if (rows % per_word != 0 || cols % per_word != 0) return 0;
  return static_cast<uint64_t>(rows * cols / 8 * source.bits);
}

Status check_zero_point(const EncodedMatrix& source, const CheckedMatrix& matrix) {
  if (source.zero_point.bytes == 0) return Status::ok();
  return check_span("zero point", source.zero_point, types_of({StoredType::kI32}), matrix.grid_cols,
                    matrix.rows * source.bits / 32);
}

void decode_gptq_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const int32_t bits = source.bits;
  const int64_t per_word = 32 / bits;
  const uint32_t mask = (uint32_t{1} << bits) - 1;
  // The writer takes 0x11...1 from the whole word, where a zero point of 0 borrows from its neighbour.
  const uint32_t added = source.zero_offset == 0 ? 0 : 0xffffffffu / mask;
  const int64_t zero_words = matrix.rows / per_word;
  for (int64_t j = 0; j < tile.cols; ++j) {
    const int64_t col = tile.col + j;
    const int64_t group = group_of(matrix, col);
    const uint8_t* words = source.data.data + col / per_word * matrix.rows * 4;
    const auto shift = static_cast<uint32_t>(col % per_word * bits);
    const float* scales = matrix.scales.data() + group * matrix.rows;
    const uint8_t* zeros =
        source.zero_point.bytes == 0 ? nullptr : source.zero_point.data + group * zero_words * 4;
    for (int64_t i = 0; i < tile.rows; ++i) {
      const int64_t row = tile.row + i;
      const auto q = static_cast<int32_t>(load_u32(words + row * 4) >> shift & mask);
      auto zero = static_cast<int32_t>(mask / 2 + 1);
      if (zeros != nullptr) {
        const uint32_t zero_word = load_u32(zeros + row / per_word * 4) + added;
        zero = static_cast<int32_t>(zero_word >> (row % per_word * bits) & mask);
      }
      tile.out[i * tile.stride + j] = scaled(q - zero, scales[row]);
    }
  }
}

}  // namespace

const StoredFormat kGptqFormat = {gptq_bytes, check_zero_point, decode_gptq_tile};

}  // namespace sparse_experts::decode_detail
