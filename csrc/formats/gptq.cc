// GPTQ: 4 bit, input-major, eight inputs to a word; columns may be grouped in any order.
#include "formats/groups.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

uint64_t gptq_bytes(const EncodedMatrix&, int64_t rows, int64_t cols) {
  return rows % 8 == 0 && cols % 8 == 0 ? static_cast<uint64_t>(rows * cols / 2) : 0;
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

}  // namespace

const StoredFormat kGptqFormat = {gptq_bytes, check_input_major_zero_point, decode_gptq_tile};

}  // namespace sparse_experts::decode_detail
