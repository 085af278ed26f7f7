// Rows of codes by half a tile of weights, two rows of x at a time, by SMMLA: in place of coded_quads.inc.h.
//
// Eight columns of two rows of x are a vector, and so are those of two rows of the panel; their product
// is the four sums of a row by a row. Of a pair of rows, accumulator [0][j] has the sums with the lower
// two rows of the panel's vector j, [1][j] those with the upper two:
//   {row 0 by lower, row 0 by upper, row 1 by lower, row 1 by upper}
// A last row without a partner is multiplied a quad at a time.

#include "cpu/isa/coded_bytes.inc.h"
#include "cpu/isa/coded_rows.inc.h"

constexpr int kRowsTogether = 2;
constexpr int64_t kGroup = 8;  // columns of a vector

// Codes of two rows lie as groups of the one and of the other in turn, the first half of the columns in the
// first row's place.
static void place_codes(const int8_t* codes, int64_t row, int64_t count, ChunkRow* rows) {
  const int64_t second = row % 2;
  if (second == 0 && row + 1 == count) {
    __builtin_memcpy(rows[row].codes, codes, kChunk);
    return;
  }
  for (int64_t half = 0; half < 2; ++half) {
    const int8_t* from = codes + half * (kChunk / 2);
    int8_t* to = rows[row - second + half].codes + second * kGroup;
    for (int64_t col = 0; col < kChunk / 2; col += kGroup)
      __builtin_memcpy(to + 2 * col, from + col, kGroup);
  }
}

// The group of column `col` of the pair that begins with *rows.
static inline const int8_t* pair_codes(const ChunkRow* rows, int64_t col) {
  const auto place = static_cast<uint64_t>(col) * 2;
  return rows[place / kChunk].codes + place % kChunk;
}

template <class D, int kRows>
__attribute__((always_inline)) static inline void begin_sums(
    const ChunkRow* rows, int64_t number, int32x4_t (&acc)[kRows][V::kPanelVectors]) {
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    // Of the first row of its pair, and of the second.
    const int first = i / 2 * 2;
    const int second = first + 1 < kRows ? first + 1 : first;
    const int32x4_t start =
        vcombine_s32(vdup_n_s32(rows[first].start[number]), vdup_n_s32(rows[second].start[number]));
#pragma GCC unroll 4
    for (int j = 0; j < V::kPanelVectors; ++j) acc[i][j] = start;
  }
}

// Half a tile of weights, from column `col` of the chunk on: kRows rows of x by all rows of the panel.
template <class Weights, int kRows>
__attribute__((always_inline)) static inline void add_half_tile(
    const Weights& weights, const char* tile, int64_t half, const ChunkRow* rows, int64_t col,
    int32x4_t (&acc)[kRows][V::kPanelVectors]) {
  using D = typename Weights::D;
  constexpr int kVectors = V::kPanelVectors;
  constexpr int kGroups = kHalfTile / kGroup;
  const char* words = tile + (Weights::kHigh + half * Weights::kWords) * kWidth * 4;
  [[maybe_unused]] const int8_t* pairs = pair_codes(rows, col);
  Word planes[kVectors] = {};
  if constexpr (Weights::kHigh > 0) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j)
      planes[j] = load_word(Weights::plane(tile, half) + j * V::kLanes * 4);
  }
  // Quad number `number` of the half, of vector j of the panel's rows.
  const auto quad = [&](int number, int j) __attribute__((always_inline)) {
    const int w = number / Weights::kQuads;
    const Word word = load_word(words + w * kWidth * 4 + j * V::kLanes * 4);
    return weights.quad(word, planes[j], half, w, number % Weights::kQuads);
  };
#pragma GCC unroll 2
  for (int group = 0; group < kGroups; ++group) {
    [[maybe_unused]] int8x16_t lower[kVectors];
    [[maybe_unused]] int8x16_t upper[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const int32x4_t even = vreinterpretq_s32_s8(quad(2 * group, j));
      const int32x4_t odd = vreinterpretq_s32_s8(quad(2 * group + 1, j));
      if constexpr (kRows % 2 == 1) {
        const int8_t* at = rows[kRows - 1].codes + col + group * kGroup;
        int32x4_t& last = acc[kRows - 1][j];
        last = D::add(last, vreinterpretq_s8_s32(even), D::broadcast(at));
        last = D::add(last, vreinterpretq_s8_s32(odd), D::broadcast(at + 4));
      }
      lower[j] = vreinterpretq_s8_s32(vzip1q_s32(even, odd));
      upper[j] = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
    }
#pragma GCC unroll 8
    for (int i = 0; i + 1 < kRows; i += 2) {
      const int8x16_t x =
          vld1q_s8(pairs + i * static_cast<int64_t>(sizeof(ChunkRow)) + group * 2 * kGroup);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        acc[i][j] = vmmlaq_s32(acc[i][j], x, lower[j]);
        acc[i + 1][j] = vmmlaq_s32(acc[i + 1][j], x, upper[j]);
      }
    }
  }
}

// Of row i of x by vector j of the panel's rows.
template <class D, int kRows>
__attribute__((always_inline)) static inline int32x4_t sum_of(
    const int32x4_t (&acc)[kRows][V::kPanelVectors], int i, int j) {
  if (kRows % 2 == 1 && i == kRows - 1) return acc[i][j];
  const int64x2_t lower = vreinterpretq_s64_s32(acc[i / 2 * 2][j]);
  const int64x2_t upper = vreinterpretq_s64_s32(acc[i / 2 * 2 + 1][j]);
  return vreinterpretq_s32_s64(i % 2 == 0 ? vzip1q_s64(lower, upper) : vzip2q_s64(lower, upper));
}
