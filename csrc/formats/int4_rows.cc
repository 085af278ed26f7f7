// ModelOpt's int4: two rows to a byte, the even one in the lower nibble, two's complement.
#include "formats/groups.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

uint64_t int4_rows_bytes(const EncodedMatrix&, int64_t rows, int64_t cols) {
  return rows % 2 == 0 ? static_cast<uint64_t>(rows / 2 * cols) : 0;
}

void decode_int4_rows_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  for (int64_t i = 0; i < tile.rows; ++i) {
    const int64_t row = tile.row + i;
    const uint8_t* bytes = source.data.data + row / 2 * matrix.cols + tile.col;
    const float* scales = matrix.scales.data() + row / source.block_rows * matrix.grid_cols;
    const auto shift = static_cast<uint32_t>(row % 2 * 4);
    float* to = tile.out + i * tile.stride;
    for (int64_t j = 0; j < tile.cols; ++j) {
      const auto nibble = static_cast<int32_t>(uint32_t{bytes[j]} >> shift & 15);
      to[j] = scaled((nibble ^ 8) - 8, scales[(tile.col + j) / source.block_cols]);
    }
  }
}

bool int4_rows_canonical(const EncodedMatrix& source, int64_t rows, int64_t cols,
                         SeMatrixFormat* format) {
  format->code = SE_CODE_U4;
  format->table = SE_TABLE_Q8;
  return canonical_grid(source, rows, cols, format);
}

void read_int4_rows(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                    const CanonicalTarget& to) {
  for (int64_t i = 0; i < num_rows; ++i) {
    const int64_t r = row + i;
    const uint8_t* bytes = matrix.source->data.data + r / 2 * matrix.cols;
    const auto shift = static_cast<uint32_t>(r % 2 * 4);
    uint8_t* codes = to.codes + i * matrix.cols;
    for (int64_t col = 0; col < matrix.cols; ++col)
      codes[col] = static_cast<uint8_t>((bytes[col] >> shift & 15) ^ 8);
  }
  copy_grid_scales(matrix, row, num_rows, to.scales);
}

}  // namespace

const StoredFormat kInt4RowsFormat = {int4_rows_bytes, nullptr, decode_int4_rows_tile,
                                      int4_rows_canonical, read_int4_rows};

}  // namespace sparse_experts::decode_detail
