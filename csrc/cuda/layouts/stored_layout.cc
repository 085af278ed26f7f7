#include "cuda/layouts/stored_layout.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/matrix_format.h"
#include "core/numeric.h"

namespace sparse_experts::cuda {
namespace {

int32_t round_up_16(int64_t bytes) { return static_cast<int32_t>((bytes + 15) / 16 * 16); }

StoredChunk lay_out_chunk(const StoredLayout& layout, int32_t cols) {
  const int64_t groups = ceil_div(cols, layout.group_cols);
  StoredChunk chunk = {};
  int64_t at = int64_t{kUnitRows} * cols / (layout.code == SE_CODE_U4 ? 2 : 1);
  chunk.scales = static_cast<int32_t>(at);
  at += groups * scale_bytes(layout.scale) * (layout.shares_scales != 0 ? 1 : kUnitRows);
  chunk.offsets = static_cast<int32_t>(at);
  at += groups * offset_bytes(layout.offset) * kUnitRows;
  chunk.supers = static_cast<int32_t>(at);
  if (layout.scale == SE_SCALE_U8 || layout.scale == SE_SCALE_I8) at += 2 * kUnitRows;
  chunk.second_supers = static_cast<int32_t>(at);
  if (layout.offset == SE_OFFSET_U8) at += 2 * kUnitRows;
  chunk.bytes = round_up_16(at);
  return chunk;
}

void set_values(const SeMatrixFormat& format, StoredLayout* layout) {
  if (layout->code != SE_CODE_U4) return;
  const ValueTable& table = kValueTables[format.table];
  if (table.is_affine) {
    layout->bias = table.bias;
    return;
  }
  layout->values = format.table == SE_TABLE_E2M1 ? NibbleValues::kE2m1 : NibbleValues::kTable;
  std::memcpy(layout->table, table.integers, sizeof layout->table);
}

}  // namespace

int32_t held_code(const SeMatrixFormat& format) {
  switch (format.code) {
    case SE_CODE_U2:
    case SE_CODE_U3:
      return SE_CODE_U4;
    case SE_CODE_U5:
    case SE_CODE_U6:
      return SE_CODE_I8;
    default:
      return format.code;
  }
}

bool holds_codes(int32_t dtype, const SeMatrixFormat& format) {
  if (dtype != SE_BF16 && dtype != SE_F16) return false;
  if (is_float_format(format) || !is_matrix_format(format) || is_permuted(format)) return false;
  return format.super_cols == 0 || format.super_cols == kChunkCols;
}

StoredLayout stored_layout(int64_t rows, int64_t cols, const SeMatrixFormat& format) {
  StoredLayout layout = {};
  layout.code = held_code(format);
  set_values(format, &layout);
  layout.scale = format.scale;
  layout.offset = format.offset;
  // Nothing but a scale is the block's.
  layout.shares_scales = format.block_rows > 1 &&
                         (format.block_rows % kUnitRows == 0 || format.block_rows >= rows) &&
                         format.offset == SE_OFFSET_NONE && format.super_cols == 0;
  layout.group_cols = format.block_cols >= cols
                          ? kChunkCols
                          : std::gcd(static_cast<int32_t>(format.block_cols), kChunkCols);
  layout.num_chunks = static_cast<int32_t>(ceil_div(cols, kChunkCols));
  const int64_t last = cols - int64_t{layout.num_chunks - 1} * kChunkCols;
  layout.last_cols = static_cast<int32_t>(round_up(last, kPieceCols));
  layout.whole = lay_out_chunk(layout, kChunkCols);
  layout.last = lay_out_chunk(layout, layout.last_cols);
  layout.largest_chunk =
      layout.num_chunks > 1 ? std::max(layout.whole.bytes, layout.last.bytes) : layout.last.bytes;
  layout.unit_bytes = int64_t{layout.num_chunks - 1} * layout.whole.bytes + layout.last.bytes;
  return layout;
}

uint64_t stored_bytes(int64_t rows, int64_t cols, const SeMatrixFormat& format) {
  const StoredLayout layout = stored_layout(rows, cols, format);
  return static_cast<uint64_t>(kHeaderBytes + ceil_div(rows, kUnitRows) * layout.unit_bytes);
}

const SeMatrixFormat* codes_of(const SeMatrixTable& table) {
  if (table.data == nullptr || table.formats == nullptr) return nullptr;
  const SeMatrixFormat& format = table.formats[table.format_of != nullptr ? table.format_of[0] : 0];
  return is_float_format(format) ? nullptr : &format;
}

bool lie_in_one_code(const SeMatrixTable& a, const SeMatrixTable& b) {
  const SeMatrixFormat* const first = codes_of(a);
  const SeMatrixFormat* const second = codes_of(b);
  if (first == nullptr || second == nullptr) return first == second;
  return held_code(*first) == held_code(*second);
}

bool have_one_format(const SeMatrixTable& a, const SeMatrixTable& b) {
  const SeMatrixFormat* const first = codes_of(a);
  const SeMatrixFormat* const second = codes_of(b);
  if (first == nullptr || second == nullptr) return first == second;
  return is_same_format(*first, *second);
}

}  // namespace sparse_experts::cuda
