// Private to formats/*.cc: what a format is made of, a checked matrix, and its decoding tile by tile.
#pragma once

#include <vector>

#include "formats/decode.h"
#include "formats/stored_matrix.h"

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
  std::vector<float> column_scale;   // [cols]; empty: none
};

struct Tile {
  int64_t row = 0;
  int64_t col = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  float* out = nullptr;
  int64_t stride = 0;  // in elements
};

// Where the canonical form of rows goes: dense, the first byte of the first row each.
struct CanonicalTarget {
  uint8_t* codes;
  uint8_t* scales;
  uint8_t* offsets;
  uint16_t* super_scales;
  uint16_t* super_offsets;
};

// What a format does; what it is made of is its row in kCodecs. One file per format.
struct StoredFormat {
  // Bytes of the weights; 0 when the shape does not fit the format or they overflow. The type of
  // the weights is one of the format's.
  uint64_t (*data_bytes)(const EncodedMatrix& source, int64_t rows, int64_t cols);
  // What its zero points must be; NULL where it has none.
  Status (*check_zero_point)(const EncodedMatrix& source, const CheckedMatrix& matrix);
  void (*decode_tile)(const CheckedMatrix& matrix, const Tile& tile);
  // Its format without decoding (formats/canonical.h), from the types of its tensors alone; false:
  // it has none.
  bool (*canonical)(const EncodedMatrix& source, int64_t rows, int64_t cols,
                    SeMatrixFormat* format);
  // Rows [row, row + num_rows) of that form.
  void (*read_rows)(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                    const CanonicalTarget& to);
};

extern const StoredFormat kFloatFormat;
extern const StoredFormat kE2M1Format;
extern const StoredFormat kPackedIntFormat;
extern const StoredFormat kAwqFormat;
extern const StoredFormat kGptqFormat;
extern const StoredFormat kInt8Format;
extern const StoredFormat kGgmlFormat;
extern const StoredFormat kInt4RowsFormat;

// The row of a codec in the table of formats; NULL for a number that is none.
const StoredFormat* stored_format(Codec codec);
inline const CodecRow& codec_row(Codec codec) { return kCodecs[static_cast<int32_t>(codec)]; }

// `a * b` elements of one of `types`, exactly.
Status check_span(const char* name, const Span& span, StoredTypes types, int64_t a, int64_t b);

// For formats whose scales are a grid: scale, blocks and flags of the canonical form (false where
// there are no scales), and the scales of rows.
bool canonical_grid(const EncodedMatrix& source, int64_t rows, int64_t cols,
                    SeMatrixFormat* format);
void copy_grid_scales(const CheckedMatrix& matrix, int64_t row, int64_t num_rows, uint8_t* to);

// Rows of a checked matrix in a float dtype; `stride` in elements.
void decode_rows(const CheckedMatrix& matrix, const RowRun& run, int32_t dtype, void* out,
                 int64_t stride);

// Fills the checked form; reads nothing outside the spans.
Status check_matrix(const EncodedMatrix& source, int64_t rows, int64_t cols, CheckedMatrix* out);

}  // namespace sparse_experts::decode_detail
