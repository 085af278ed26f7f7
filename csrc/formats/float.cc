// Elements as they are: F32, F16, BF16, F8_E4M3, F8_E5M2, in rows or transposed; optional scales, multiplied.
#include <array>
#include <cstring>

#include "core/matrix_format.h"
#include "core/numeric.h"
#include "formats/groups.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

// 256 floats: one load per element instead of the bit work.
const std::array<float, 256>& e4m3_table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (size_t code = 0; code < values.size(); ++code) {
      values[code] = decode_e4m3(static_cast<uint8_t>(code));
    }
    return values;
  }();
  return table;
}

struct ReadF32 {
  static constexpr int64_t kBytes = 4;
  float operator()(const uint8_t* from) const { return bits_to_f32(load_u32(from)); }
};

struct ReadF16 {
  static constexpr int64_t kBytes = 2;
  float operator()(const uint8_t* from) const { return decode_f16(load_u16(from)); }
};

struct ReadBF16 {
  static constexpr int64_t kBytes = 2;
  float operator()(const uint8_t* from) const { return decode_bf16(load_u16(from)); }
};

struct ReadE4M3 {
  static constexpr int64_t kBytes = 1;
  const float* table;
  float operator()(const uint8_t* from) const { return table[*from]; }
};

struct ReadE5M2 {
  static constexpr int64_t kBytes = 1;
  float operator()(const uint8_t* from) const { return decode_e5m2(*from); }
};

template <typename Read>
void read_rows(const CheckedMatrix& matrix, const Tile& tile, Read read) {
  const uint8_t* data = matrix.source->data.data;
  if (!matrix.source->transposed) {
    for (int64_t i = 0; i < tile.rows; ++i) {
      const uint8_t* from = data + ((tile.row + i) * matrix.cols + tile.col) * Read::kBytes;
      float* to = tile.out + i * tile.stride;
      for (int64_t j = 0; j < tile.cols; ++j) to[j] = read(from + j * Read::kBytes);
    }
    return;
  }
  for (int64_t j = 0; j < tile.cols; ++j) {
    const uint8_t* from = data + ((tile.col + j) * matrix.rows + tile.row) * Read::kBytes;
    float* to = tile.out + j;
    for (int64_t i = 0; i < tile.rows; ++i) to[i * tile.stride] = read(from + i * Read::kBytes);
  }
}

void multiply_scales(const CheckedMatrix& matrix, const Tile& tile) {
  const int64_t block_rows = matrix.source->block_rows;
  const int64_t block_cols = matrix.source->block_cols;
  // The grid lies as the elements do.
  const bool transposed = matrix.source->transposed;
  const int64_t row_stride = transposed ? 1 : matrix.grid_cols;
  const int64_t col_stride = transposed ? matrix.grid_rows : 1;
  for (int64_t i = 0; i < tile.rows; ++i) {
    const float* scales = matrix.scales.data() + (tile.row + i) / block_rows * row_stride;
    float* to = tile.out + i * tile.stride;
    for (int64_t j = 0; j < tile.cols;) {
      const int64_t block = (tile.col + j) / block_cols;
      const int64_t left = block_cols - (tile.col + j) % block_cols;
      const int64_t end = left < tile.cols - j ? j + left : tile.cols;
      const float scale = scales[block * col_stride];
      for (; j < end; ++j) to[j] *= scale;
    }
  }
}

uint64_t float_bytes(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  int64_t bytes = 0;
  if (!checked_multiply(rows * cols, stored_type_bytes(source.data.type), &bytes)) return 0;
  return static_cast<uint64_t>(bytes);
}

void decode_float_tile(const CheckedMatrix& matrix, const Tile& tile) {
  switch (matrix.source->data.type) {
    case StoredType::kF32:
      read_rows(matrix, tile, ReadF32{});
      break;
    case StoredType::kF16:
      read_rows(matrix, tile, ReadF16{});
      break;
    case StoredType::kBF16:
      read_rows(matrix, tile, ReadBF16{});
      break;
    case StoredType::kF8E5M2:
      read_rows(matrix, tile, ReadE5M2{});
      break;
    default:
      read_rows(matrix, tile, ReadE4M3{e4m3_table().data()});
  }
  if (!matrix.scales.empty()) multiply_scales(matrix, tile);
}

// Floats without scales, and e4m3 with them.
bool float_canonical(const EncodedMatrix& source, int64_t rows, int64_t cols,
                     SeMatrixFormat* format) {
  const bool is_scaled = source.block_rows > 0;
  if (source.data.type == StoredType::kF8E4M3) {
    format->code = SE_CODE_E4M3;
    return is_scaled && canonical_grid(source, rows, cols, format);
  }
  if (is_scaled || source.data.type == StoredType::kF8E5M2) return false;
  *format = float_format(source.data.type == StoredType::kF32   ? SE_F32
                         : source.data.type == StoredType::kF16 ? SE_F16
                                                                : SE_BF16);
  return true;
}

void read_float_rows(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                     const CanonicalTarget& to) {
  const auto bytes = static_cast<size_t>(stored_type_bytes(matrix.source->data.type));
  const auto cols = static_cast<size_t>(matrix.cols);
  const auto rows = static_cast<size_t>(num_rows);
  const auto first = static_cast<size_t>(row);
  const uint8_t* data = matrix.source->data.data;
  if (!matrix.source->transposed) {
    std::memcpy(to.codes, data + first * cols * bytes, rows * cols * bytes);
  } else if (bytes == 1) {
    read_by_columns(num_rows, matrix.cols, to.codes,
                    [&](int64_t col, int64_t begin, int64_t count, uint8_t* codes, int64_t stride) {
                      const uint8_t* from = data + col * matrix.rows + row + begin;
                      for (int64_t i = 0; i < count; ++i) codes[i * stride] = from[i];
                    });
  } else {
    for (size_t col = 0; col < cols; ++col) {
      const uint8_t* from = data + (col * static_cast<size_t>(matrix.rows) + first) * bytes;
      for (size_t i = 0; i < rows; ++i)
        std::memcpy(to.codes + (i * cols + col) * bytes, from + i * bytes, bytes);
    }
  }
  if (!matrix.scales.empty()) copy_grid_scales(matrix, row, num_rows, to.scales);
}

}  // namespace

const StoredFormat kFloatFormat = {float_bytes, nullptr, decode_float_tile, float_canonical,
                                   read_float_rows};

}  // namespace sparse_experts::decode_detail
