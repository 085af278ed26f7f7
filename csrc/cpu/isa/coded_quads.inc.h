// Rows of codes by half a tile of weights, each row of x by itself: a quad of its columns meets the same
// quad of all rows of the panel. Included by the instruction set's file before coded_matmul.inc.h.

#include "cpu/isa/coded_bytes.inc.h"
#include "cpu/isa/coded_rows.inc.h"

constexpr int kRowsTogether = 1;

static void place_codes(const int8_t* codes, int64_t row, int64_t, ChunkRow* rows) {
  __builtin_memcpy(rows[row].codes, codes, kChunk);
}

template <class D, int kRows>
__attribute__((always_inline)) static inline void begin_sums(
    const ChunkRow* rows, int64_t number, typename D::Acc (&acc)[kRows][V::kPanelVectors]) {
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < V::kPanelVectors; ++j) acc[i][j] = D::begin(rows[i].start[number]);
  }
}

// Half a tile of weights, from column `col` of the chunk on: kRows rows of x by all rows of the panel.
template <class Weights, int kRows>
__attribute__((always_inline)) static inline void add_half_tile(
    const Weights& weights, const char* tile, int64_t half, const ChunkRow* rows, int64_t col,
    typename Weights::D::Acc (&acc)[kRows][V::kPanelVectors]) {
  using D = typename Weights::D;
  constexpr int kVectors = V::kPanelVectors;
  const int8_t* x = rows->codes + col;
  const char* words = tile + (Weights::kHigh + half * Weights::kWords) * kWidth * 4;
  Word planes[kVectors] = {};
  if constexpr (Weights::kHigh > 0) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j)
      planes[j] = load_word(Weights::plane(tile, half) + j * V::kLanes * 4);
  }
#pragma GCC unroll 4
  for (int w = 0; w < Weights::kWords; ++w) {
    Word word[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j)
      word[j] = load_word(words + w * kWidth * 4 + j * V::kLanes * 4);
#pragma GCC unroll 4
    for (int quad = 0; quad < Weights::kQuads; ++quad) {
      typename D::Bytes bytes[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) bytes[j] = weights.quad(word[j], planes[j], half, w, quad);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const int8_t* at = x + i * static_cast<int64_t>(sizeof(ChunkRow));
        const typename D::X one = D::broadcast(at + (w * Weights::kQuads + quad) * 4);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) acc[i][j] = D::add(acc[i][j], bytes[j], one);
      }
    }
  }
}

// Of row i of x by vector j of the panel's rows.
template <class D, int kRows>
__attribute__((always_inline)) static inline const typename D::Acc& sum_of(
    const typename D::Acc (&acc)[kRows][V::kPanelVectors], int i, int j) {
  return acc[i][j];
}
