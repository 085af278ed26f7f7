#include "cpu/layouts/quant_panels.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/matrix_format.h"
#include "cpu/layouts/quant_codes.h"
#include "ops/checks.h"

namespace sparse_experts::cpu {
namespace {

// Codes begin where a vector of the kernels should, at the least cost in memory.
int64_t in_lines(int64_t bytes, int64_t width) {
  const int64_t line = std::min<int64_t>(64, width * 2);
  return (bytes + line - 1) / line * line;
}

bool has_global(const SeMatrixFormat& format) {
  return (format.flags & (SE_FORMAT_GLOBAL_MULTIPLIES | SE_FORMAT_GLOBAL_DIVIDES)) != 0;
}

// A chunk of `cols` columns; sets its places, returns its bytes.
int64_t lay_out_chunk(int64_t width, int64_t cols, const SeMatrixFormat& format, bool in_header,
                      QuantChunk* places) {
  const int64_t blocks = in_header ? 0 : (cols + format.block_cols - 1) / format.block_cols;
  int64_t at = has_super_scales(format) ? width * 2 : 0;
  places->second_supers = at;
  if (format.offset == SE_OFFSET_U8) at += width * 2;
  places->scales = at;
  at += blocks * width * scale_bytes(format.scale);
  places->offsets = at;
  at += blocks * width * offset_bytes(format.offset);
  places->codes = in_lines(at, width);
  const int64_t tiles = (cols + kTile - 1) / kTile;
  return places->codes + tiles * kTile * width * code_bits(format.code) / 8;
}

template <typename T>
void copy_column(const char* from, int64_t stride, int64_t count, char* to) {
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * sizeof(T), from + i * stride * sizeof(T), sizeof(T));
}

// Numbers of `bytes` each: `from` is [row, stride], `to` gets [column][row of a panel].
void transpose(const void* from, int64_t bytes, int64_t stride, int64_t num_rows, int64_t first,
               int64_t count, int64_t width, char* to) {
  for (int64_t i = 0; i < count; ++i) {
    const char* column = static_cast<const char*>(from) + (first + i) * bytes;
    char* out = to + i * width * bytes;
    if (bytes == 1) copy_column<uint8_t>(column, stride, num_rows, out);
    if (bytes == 2) copy_column<uint16_t>(column, stride, num_rows, out);
    if (bytes == 4) copy_column<uint32_t>(column, stride, num_rows, out);
  }
}

// One panel's rows, `first` of which is the first in the arrays of `rows`.
class PanelPacker {
 public:
  PanelPacker(int64_t width, const SeMatrixRows& rows)
      : width_(width),
        rows_(rows),
        format_(*rows.format),
        quant_(quant_panel(width, rows.rows, rows.cols, format_)),
        blocks_(num_blocks(format_, rows.cols)),
        supers_(num_super_blocks(format_, rows.cols)) {}

  void pack(int64_t first, int64_t num_rows) const {
    const int64_t bytes = quant_panel_bytes(quant_);
    char* panel = static_cast<char*>(rows_.matrix) + (rows_.first_row + first) / width_ * bytes;
    // Missing rows, the ends of lines.
    std::memset(panel, 0, static_cast<size_t>(bytes));
    if (has_global(format_)) std::memcpy(panel, &rows_.global, sizeof rows_.global);
    if (quant_.in_header) pack_header(panel, first, num_rows);
    for (int64_t chunk = 0; chunk < quant_.num_chunks; ++chunk)
      pack_chunk(panel + quant_.header_bytes + chunk * quant_.chunk_bytes, chunk, first, num_rows);
  }

 private:
  // Of an array [rows, columns] of numbers, from row `first` on.
  static const char* row_of(const void* array, int64_t first, int64_t columns, int64_t bytes) {
    return static_cast<const char*>(array) + first * columns * bytes;
  }

  void pack_header(char* panel, int64_t first, int64_t num_rows) const {
    pack_scales(first, num_rows, 0, blocks_, panel + quant_.header_scales,
                panel + quant_.header_offsets);
  }

  void pack_scales(int64_t first, int64_t num_rows, int64_t block, int64_t count, char* scales,
                   char* offsets) const {
    const int64_t scale = scale_bytes(format_.scale);
    const char* from = row_of(rows_.scales, first, blocks_, scale);
    if (quant_.shares_scales) {
      std::memcpy(scales, from + block * scale, static_cast<size_t>(count * scale));
    } else {
      transpose(from, scale, blocks_, num_rows, block, count, width_, scales);
    }
    const int64_t offset = offset_bytes(format_.offset);
    if (offset > 0)
      transpose(row_of(rows_.offsets, first, blocks_, offset), offset, blocks_, num_rows, block,
                count, width_, offsets);
  }

  void pack_chunk(char* to, int64_t chunk, int64_t first, int64_t num_rows) const {
    const QuantChunk& places = chunk + 1 == quant_.num_chunks ? quant_.last : quant_.whole;
    if (has_super_scales(format_))
      transpose(row_of(rows_.super_scales, first, supers_, 2), 2, supers_, num_rows, chunk, 1,
                width_, to);
    if (format_.offset == SE_OFFSET_U8)
      transpose(row_of(rows_.super_offsets, first, supers_, 2), 2, supers_, num_rows, chunk, 1,
                width_, to + places.second_supers);
    if (!quant_.in_header) {
      const int64_t per_chunk = kChunk / format_.block_cols;
      const int64_t block = chunk * per_chunk;
      pack_scales(first, num_rows, block, std::min(per_chunk, blocks_ - block), to + places.scales,
                  to + places.offsets);
    }
    const int64_t col = chunk * kChunk;
    const uint8_t* codes = static_cast<const uint8_t*>(rows_.source) + first * rows_.source_stride;
    pack_codes(format_.code, codes + col, rows_.source_stride, num_rows,
               std::min(kChunk, rows_.cols - col), width_, to + places.codes);
  }

  int64_t width_;
  const SeMatrixRows& rows_;
  const SeMatrixFormat& format_;
  QuantPanel quant_;
  int64_t blocks_;
  int64_t supers_;
};

}  // namespace

bool has_quant_panels(const SeMatrixFormat& format) {
  if (is_float_format(format) || !is_matrix_format(format)) return false;
  return format.super_cols == 0 || format.super_cols == kChunk;
}

QuantPanel quant_panel(int64_t width, int64_t rows, int64_t cols, const SeMatrixFormat& format) {
  QuantPanel panel = {};
  panel.scale = format.scale;
  panel.offset = format.offset;
  panel.flags = format.flags;
  panel.block_cols = format.block_cols;
  constexpr int64_t kMostSummed = 64;
  panel.sum_cols =
      format.block_cols >= cols ? kMostSummed : std::gcd(format.block_cols, kMostSummed);
  // Rows of one panel lie in one block of rows, and nothing but a scale is the block's.
  panel.shares_scales = (format.block_rows % width == 0 || format.block_rows >= rows) &&
                        format.block_rows > 1 && format.offset == SE_OFFSET_NONE &&
                        format.super_cols == 0;
  panel.in_header = panel.shares_scales || format.block_cols >= std::min(cols, kChunk) ||
                    kChunk % format.block_cols != 0;
  // Super blocks are chunks, and so their scales lie there.
  if (format.super_cols > 0) panel.in_header = false;
  int64_t at = has_global(format) ? 4 : 0;
  panel.header_scales = at;
  if (panel.in_header) {
    const int64_t blocks = num_blocks(format, cols);
    at += blocks * scale_bytes(format.scale) * (panel.shares_scales ? 1 : width);
    panel.header_offsets = at;
    at += blocks * offset_bytes(format.offset) * width;
  }
  panel.header_bytes = in_lines(at, width);
  panel.num_chunks = (cols + kChunk - 1) / kChunk;
  panel.chunk_bytes = lay_out_chunk(width, kChunk, format, panel.in_header, &panel.whole);
  panel.last_bytes = lay_out_chunk(width, cols - (panel.num_chunks - 1) * kChunk, format,
                                   panel.in_header, &panel.last);
  panel.factor = 1;
  if (format.table != SE_TABLE_NONE) {
    panel.integers = kValueTables[format.table].integers;
    panel.factor = kValueTables[format.table].factor;
    const CodeValues& values = code_values(format.table, code_bits(format.code));
    panel.is_affine = kValueTables[format.table].is_affine;
    panel.bias = kValueTables[format.table].bias;
    panel.values = values.f32;
    panel.bf16_values = values.bf16;
  }
  return panel;
}

int64_t quant_panel_bytes(const QuantPanel& panel) {
  return panel.header_bytes + (panel.num_chunks - 1) * panel.chunk_bytes + panel.last_bytes;
}

Status pack_quant_rows(int64_t width, const SeMatrixRows& rows) {
  SE_RETURN_IF_ERROR(check_code_rows(rows));
  const PanelPacker packer(width, rows);
  for (int64_t row = 0; row < rows.num_rows; row += width)
    packer.pack(row, std::min(width, rows.num_rows - row));
  return Status::ok();
}

}  // namespace sparse_experts::cpu
