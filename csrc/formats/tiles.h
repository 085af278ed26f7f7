// Private to formats/*.cc: a checked matrix, and its decoding tile by tile.
#pragma once

#include <vector>

#include "formats/decode.h"

namespace sparse_experts::decode_detail {

// A tile fits the first-level cache, and input-major codecs read runs of kTileRows.
constexpr int64_t kTileRows = 32;
constexpr int64_t kTileCols = 256;

// A matrix whose spans have been checked against its shape.
struct CheckedMatrix {
  const EncodedMatrix* source = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  // Grid of scales; grid_cols is the number of groups of the input-major codecs.
  int64_t grid_rows = 0;
  int64_t grid_cols = 0;
  std::vector<float> scales;         // in the order of the file, the global scale applied
  std::vector<int32_t> group_index;  // [cols]; empty: col / block_cols
};

struct Tile {
  int64_t row = 0;
  int64_t col = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  float* out = nullptr;
  int64_t stride = 0;  // in elements
};

uint64_t stored_type_bytes(StoredType type);

// Fills the checked form; reads nothing outside the spans.
Status check_matrix(const EncodedMatrix& source, int64_t rows, int64_t cols, CheckedMatrix* out);

void decode_float_tile(const CheckedMatrix& matrix, const Tile& tile);
void decode_e2m1_tile(const CheckedMatrix& matrix, const Tile& tile);
void decode_packed_int_tile(const CheckedMatrix& matrix, const Tile& tile);
void decode_awq_tile(const CheckedMatrix& matrix, const Tile& tile);
void decode_gptq_tile(const CheckedMatrix& matrix, const Tile& tile);

}  // namespace sparse_experts::decode_detail
