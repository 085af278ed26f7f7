#include "cpu/layouts/float_panels.h"

#include <algorithm>
#include <cstring>

namespace sparse_experts::cpu {
namespace {

// The compiler's vectors: every target has shuffles for four 32-bit lanes.
typedef uint32_t Word4 __attribute__((vector_size(16)));
typedef uint16_t Half8 __attribute__((vector_size(16)));

constexpr int64_t kBlock = 4;

Word4 load4(const char* from) {
  Word4 v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// Four rows of four words become four columns.
void transpose4(const char* const (&rows)[kBlock], int64_t at, Word4 (&out)[kBlock]) {
  const Word4 a = load4(rows[0] + at);
  const Word4 b = load4(rows[1] + at);
  const Word4 c = load4(rows[2] + at);
  const Word4 d = load4(rows[3] + at);
  const Word4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Word4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Word4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Word4 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  out[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
  out[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  out[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
  out[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

// Words of f32, or pairs of bf16: word (row, w) goes to w * width + row.
void pack_words(const char* const* rows, int64_t width, int64_t num_words, char* panel) {
  const int64_t whole = num_words / kBlock * kBlock;
  for (int64_t w = 0; w < whole; w += kBlock) {
    char* to = panel + w * width * 4;
    for (int64_t row = 0; row < width; row += kBlock) {
      const char* const four[kBlock] = {rows[row], rows[row + 1], rows[row + 2], rows[row + 3]};
      Word4 columns[kBlock];
      transpose4(four, w * 4, columns);
      for (int64_t i = 0; i < kBlock; ++i)
        std::memcpy(to + (i * width + row) * 4, &columns[i], sizeof columns[i]);
    }
  }
  for (int64_t w = whole; w < num_words; ++w) {
    for (int64_t row = 0; row < width; ++row)
      std::memcpy(panel + (w * width + row) * 4, rows[row] + w * 4, 4);
  }
}

// f16: half (row, k) goes to k * width + row. Pairs of eight rows are transposed as words, then
// pulled apart.
void pack_halves(const char* const* rows, int64_t width, int64_t cols, char* panel) {
  const int64_t whole = cols / (2 * kBlock) * (2 * kBlock);
  for (int64_t k = 0; k < whole; k += 2 * kBlock) {
    for (int64_t row = 0; row < width; row += 2 * kBlock) {
      const char* const low[kBlock] = {rows[row], rows[row + 1], rows[row + 2], rows[row + 3]};
      const char* const high[kBlock] = {rows[row + 4], rows[row + 5], rows[row + 6], rows[row + 7]};
      Word4 low_pairs[kBlock];
      Word4 high_pairs[kBlock];
      transpose4(low, k * 2, low_pairs);
      transpose4(high, k * 2, high_pairs);
      for (int64_t i = 0; i < kBlock; ++i) {
        const Half8 a = reinterpret_cast<Half8>(low_pairs[i]);
        const Half8 b = reinterpret_cast<Half8>(high_pairs[i]);
        const Half8 even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
        const Half8 odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
        char* to = panel + ((k + 2 * i) * width + row) * 2;
        std::memcpy(to, &even, sizeof even);
        std::memcpy(to + width * 2, &odd, sizeof odd);
      }
    }
  }
  for (int64_t k = whole; k < cols; ++k) {
    for (int64_t row = 0; row < width; ++row)
      std::memcpy(panel + (k * width + row) * 2, rows[row] + k * 2, 2);
  }
}

// The second half of an odd bf16 row's last pair is zero: it meets whatever follows the row of x.
void pack_last_pair(const char* const* rows, int64_t width, int64_t cols, char* panel) {
  char* to = panel + cols / 2 * width * 4;
  for (int64_t row = 0; row < width; ++row) {
    std::memcpy(to + row * 4, rows[row] + (cols - 1) * 2, 2);
    std::memset(to + row * 4 + 2, 0, 2);
  }
}

constexpr int64_t kMaxWidth = 64;

}  // namespace

void pack_rows(const PanelLayout& layout, int64_t cols, int32_t code, int64_t first_row,
               int64_t num_rows, const void* source, int64_t source_stride, void* matrix) {
  const int64_t width = layout.width;
  const int64_t stride_bytes = code_row_bytes(code, source_stride);
  const char* rows[kMaxWidth];
  for (int64_t row = 0; row < num_rows; row += width) {
    char* panel = static_cast<char*>(matrix) + (first_row + row) / width * layout.panel_bytes;
    const int64_t present = std::min(width, num_rows - row);
    for (int64_t i = 0; i < width; ++i) {
      // Missing rows are packed as copies of the last one, then cleared.
      const int64_t from = row + std::min(i, present - 1);
      rows[i] = static_cast<const char*>(source) + from * stride_bytes;
    }
    if (code == SE_CODE_F16) {
      pack_halves(rows, width, cols, panel);
    } else {
      pack_words(rows, width, code == SE_CODE_BF16 ? cols / 2 : cols, panel);
      if (code == SE_CODE_BF16 && cols % 2 != 0) pack_last_pair(rows, width, cols, panel);
    }
    if (present == width) continue;
    const int64_t lane = code == SE_CODE_F16 ? 2 : 4;
    for (int64_t at = 0; at < layout.panel_bytes; at += width * lane)
      std::memset(panel + at + present * lane, 0, static_cast<size_t>((width - present) * lane));
  }
}

}  // namespace sparse_experts::cpu
