#include "cuda/layouts/pack_stored.h"

#include <algorithm>
#include <cstring>

#include "core/matrix_format.h"
#include "core/numeric.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

constexpr int kStepCols = 16;  // of an m16n8k16
constexpr int kPieceSteps = kPieceCols / kStepCols;
constexpr int kLanesPerRow = 4;

// A row's codes of 64 columns.
using PieceCodes = uint8_t[kPieceCols];

// Where the codes of a lane lie in a k16 step: the pairs 2t and 2t + 8.
constexpr int column_of(int step, int lane, int pair) {
  return step * kStepCols + 2 * lane + pair * 8;
}

void pack_bytes(const PieceCodes& codes, int row, unsigned char* piece) {
  for (int lane = 0; lane < kLanesPerRow; ++lane) {
    unsigned char* to = piece + (row * kLanesPerRow + lane) * 16;
    for (int step = 0; step < kPieceSteps; ++step) {
      for (int pair = 0; pair < 2; ++pair) {
        std::memcpy(to, codes + column_of(step, lane, pair), 2);
        to += 2;
      }
    }
  }
}

// Eight codes, and the eight behind them, as one byte for each two: those of a lane's two pairs.
uint64_t step_nibbles(const uint8_t* codes) {
  constexpr uint64_t kNibbles = 0x0f0f0f0f0f0f0f0full;
  uint64_t low;
  uint64_t high;
  std::memcpy(&low, codes, sizeof low);
  std::memcpy(&high, codes + 8, sizeof high);
  return (low & kNibbles) | (high & kNibbles) << 4;
}

// A word has the bytes of its first step, column 2t and 2t + 1, at bits 0 and 16, and those of the
// second 8 bits further.
void pack_nibbles(const PieceCodes& codes, int row, unsigned char* piece) {
  uint32_t words[kLanesPerRow][2];
  for (int word = 0; word < 2; ++word) {
    const uint64_t first = step_nibbles(codes + 2 * word * kStepCols);
    const uint64_t second = step_nibbles(codes + (2 * word + 1) * kStepCols);
    for (int lane = 0; lane < kLanesPerRow; ++lane) {
      const auto a = static_cast<uint32_t>(first >> 16 * lane);
      const auto b = static_cast<uint32_t>(second >> 16 * lane);
      words[lane][word] = (a & 0xffu) | (b & 0xffu) << 8 | (a & 0xff00u) << 8 | (b & 0xff00u) << 16;
    }
  }
  std::memcpy(piece + row * kLanesPerRow * 8, words, sizeof words);
}

// An array [row, per_row] of numbers of `bytes` each.
struct Numbers {
  const void* array;
  int64_t bytes;
  int64_t per_row;
};
void copy_number(const Numbers& from, int64_t row, int64_t index, unsigned char* to) {
  std::memcpy(to, static_cast<const char*>(from.array) + (row * from.per_row + index) * from.bytes,
              static_cast<size_t>(from.bytes));
}

// One unit's rows, the first of which is `first` in the arrays.
class UnitPacker {
 public:
  UnitPacker(const StoredLayout& layout, const SeMatrixRows& rows, int64_t first)
      : layout_(layout),
        rows_(rows),
        format_(*rows.format),
        first_(first),
        count_(static_cast<int>(std::min<int64_t>(kUnitRows, rows.num_rows - first))) {
    const int64_t blocks = num_blocks(format_, rows.cols);
    scales_ = {rows.scales, scale_bytes(format_.scale), blocks};
    offsets_ = {rows.offsets, offset_bytes(format_.offset), blocks};
    // Integers of 5 and 6 bits become what they stand for.
    if (layout.code == SE_CODE_I8 && format_.table != SE_TABLE_NONE)
      integers_ = kValueTables[format_.table].integers;
  }

  void pack_chunk(int32_t number, unsigned char* to) const {
    const bool is_last = number + 1 == layout_.num_chunks;
    const StoredChunk& places = is_last ? layout_.last : layout_.whole;
    const int32_t padded = is_last ? layout_.last_cols : kChunkCols;
    const int64_t col = int64_t{number} * kChunkCols;
    for (int32_t at = 0; at < padded; at += kPieceCols) pack_piece(col + at, to);
    const int64_t there = std::min<int64_t>(padded, rows_.cols - col);
    for (int32_t at = 0; at < there; at += layout_.group_cols)
      pack_group(at / layout_.group_cols, (col + at) / format_.block_cols, places, to);
    if (has_super_scales(format_)) pack_supers(rows_.super_scales, number, to + places.supers);
    if (format_.offset == SE_OFFSET_U8)
      pack_supers(rows_.super_offsets, number, to + places.second_supers);
  }

 private:
  // The columns from `col` on, of all rows; `chunk` is where its codes begin.
  void pack_piece(int64_t col, unsigned char* chunk) const {
    const int64_t piece_bytes =
        layout_.code == SE_CODE_U4 ? kUnitRows * kPieceCols / 2 : kUnitRows * kPieceCols;
    unsigned char* piece = chunk + col % kChunkCols / kPieceCols * piece_bytes;
    const int64_t there = std::clamp<int64_t>(rows_.cols - col, 0, kPieceCols);
    for (int row = 0; row < count_; ++row) {
      const uint8_t* from =
          static_cast<const uint8_t*>(rows_.source) + (first_ + row) * rows_.source_stride + col;
      PieceCodes codes = {};
      if (integers_ == nullptr) {
        std::memcpy(codes, from, static_cast<size_t>(there));
      } else {
        for (int64_t i = 0; i < there; ++i)
          codes[i] = static_cast<uint8_t>(integers_[from[i] & 63]);
      }
      if (layout_.code == SE_CODE_U4) {
        pack_nibbles(codes, row, piece);
      } else {
        pack_bytes(codes, row, piece);
      }
    }
  }

  void pack_group(int32_t group, int64_t block, const StoredChunk& places,
                  unsigned char* to) const {
    if (layout_.shares_scales != 0) {
      copy_number(scales_, first_, block, to + places.scales + group * scales_.bytes);
      return;
    }
    for (int row = 0; row < count_; ++row) {
      const int64_t at = group * kUnitRows + row;
      copy_number(scales_, first_ + row, block, to + places.scales + at * scales_.bytes);
      if (offsets_.bytes > 0)
        copy_number(offsets_, first_ + row, block, to + places.offsets + at * offsets_.bytes);
    }
  }

  void pack_supers(const uint16_t* supers, int32_t number, unsigned char* to) const {
    const Numbers from = {supers, 2, num_super_blocks(format_, rows_.cols)};
    for (int row = 0; row < count_; ++row) copy_number(from, first_ + row, number, to + 2 * row);
  }

  const StoredLayout& layout_;
  const SeMatrixRows& rows_;
  const SeMatrixFormat& format_;
  int64_t first_;
  int count_;
  Numbers scales_ = {};
  Numbers offsets_ = {};
  const int8_t* integers_ = nullptr;
};

}  // namespace

Status check_stored_rows(const SeMatrixRows& rows) {
  SE_RETURN_IF_ERROR(check_code_rows(rows));
  SE_CHECK_ARGUMENT(rows.first_row % kUnitRows == 0,
                    "matrix: rows that begin within those that lie together");
  return Status::ok();
}

void write_stored_header(const SeMatrixRows& rows, unsigned char* header) {
  const SeMatrixFormat& format = *rows.format;
  double multiplier = 1;
  if ((format.flags & SE_FORMAT_GLOBAL_MULTIPLIES) != 0) multiplier = double{rows.global};
  if ((format.flags & SE_FORMAT_GLOBAL_DIVIDES) != 0) multiplier = 1 / double{rows.global};
  // E2M1's codes become their values themselves, other tables' the integers of the table.
  if (is_index_code(format.code) && format.table != SE_TABLE_E2M1)
    multiplier *= double{kValueTables[format.table].factor};
  const float rounded = static_cast<float>(multiplier);
  std::memset(header, 0, kHeaderBytes);
  std::memcpy(header, &rounded, sizeof rounded);
}

void pack_stored_unit(const StoredLayout& layout, const SeMatrixRows& rows, int64_t first,
                      unsigned char* unit) {
  std::memset(unit, 0, static_cast<size_t>(layout.unit_bytes));
  const UnitPacker packer(layout, rows, first);
  for (int32_t chunk = 0; chunk < layout.num_chunks; ++chunk)
    packer.pack_chunk(chunk, unit + int64_t{chunk} * layout.whole.bytes);
}

}  // namespace sparse_experts::cuda
