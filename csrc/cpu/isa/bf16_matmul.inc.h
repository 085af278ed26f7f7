// The matmul of bf16 activations by quantised panels (MatmulKernel in cpu/isa/isa.h), included
// inside an unnamed namespace.
//
//   for each panel:
//     for a chunk of K:
//       widen its scales and offsets to f32
//       for up to kMostRows rows of x: for sum_cols columns: sum from zero, scale, add to out
//
// Few rows read one panel at a time, because more streams at once are read more slowly than one.

constexpr int kMostRows = 8;  // of a block

// How far ahead of the codes in use to fetch.
constexpr int64_t kFetchAhead = 8192;
constexpr int64_t kHalf = kTile / 2;

static inline __m512 dot(__m512 acc, __m512i x, __m512i w) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
}

static inline __m512i broadcast_pair(const char* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return _mm512_set1_epi32(pair);
}

// Neighbours of 128 bits, added: those of a in the lower half of the result.
static inline __m512 add_quarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}
static inline __m512 add_unpacked(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

// The sums of each sum_cols columns of a chunk's row of x, by one tree whatever else is computed.
static void sum_row(const char* x, int64_t sum_cols, float* sums) {
  const __m512i ones = _mm512_set1_epi32(0x3f803f80);
  __m512 of_32[8];
  for (int i = 0; i < 8; ++i) of_32[i] = dot(V::set(0.0f), _mm512_loadu_si512(x + i * 64), ones);
  __m512 halves[2];
  for (int i = 0; i < 2; ++i) {
    // [vector 0, 2, 1, 3] in each quarter: 8 columns of each.
    halves[i] = add_unpacked(add_unpacked(of_32[4 * i], of_32[4 * i + 1]),
                             add_unpacked(of_32[4 * i + 2], of_32[4 * i + 3]));
  }
  const __m512i order = _mm512_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7, 8, 12, 10, 14, 9, 13, 11, 15);
  // The even ones, then the odd ones.
  const __m512i parted = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
  __m512 of_cols = _mm512_permutexvar_ps(order, add_quarters(halves[0], halves[1]));
  for (int64_t cols = kHalf; cols < sum_cols; cols *= 2) {
    const __m512 pairs = _mm512_permutexvar_ps(parted, of_cols);
    of_cols = V::add(pairs, _mm512_shuffle_f32x4(pairs, pairs, 0xee));
  }
  V::store(sums, of_cols);
}

// One chunk of one panel.
struct Chunk {
  const QuantPanel& quant;
  const char* codes;
  const BlockScales& blocks;
  int64_t first_col;  // of the matrix
  int64_t cols;
  int64_t fetch_ahead;
};

// Adds 16 columns from `col` on, a multiple of 16: kRows rows of x by all rows of the panel.
template <class Code, int kRows>
__attribute__((always_inline)) static inline void add_half(const Code& code, const Chunk& chunk,
                                                           int64_t col,
                                                           const char* const (&x)[kRows],
                                                           __m512 (&acc)[kRows][V::kPanelVectors]) {
  constexpr int kVectors = V::kPanelVectors;
  constexpr int64_t kLineBytes = kWidth * 4;
  constexpr int kWords = Code::kLow / 2;   // of a half of a tile
  constexpr int kPairs = 16 / Code::kLow;  // of a word
  constexpr int64_t kTileBytes = (Code::kLow + Code::kHigh) * kLineBytes;
  // Unsigned, so that divisions are shifts: a half has few instructions beside its products.
  const auto number = static_cast<uint64_t>(col) / kHalf;
  const char* words = chunk.codes + number * (kTileBytes / 2);
  __m512i planes[kVectors] = {};
  if constexpr (Code::kHigh > 0) {
    const uint64_t half = number % 2;
    const char* tile = chunk.codes + number / 2 * kTileBytes;
    const char* line = tile + (Code::kHigh - 1) * half * kLineBytes;
    words = tile + (Code::kHigh + half * kWords) * kLineBytes;
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      planes[j] = _mm512_loadu_si512(line + j * 64);
      // One bit for each column: those of the second half lie behind the others.
      if constexpr (Code::kHigh == 1)
        planes[j] = (__m512i)((Halves)planes[j] >> static_cast<uint16_t>(half * 8));
      __builtin_prefetch(line + j * 64 + chunk.fetch_ahead);
    }
  }
  const char* ahead = words + chunk.fetch_ahead;
  // The compiler would keep a register for each line ahead, and save others for them.
  asm("" : "+r"(ahead));
#pragma GCC unroll 4
  for (int w = 0; w < kWords; ++w) {
    typename Code::Word word[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      const int64_t at = w * kLineBytes + j * 64;
      word[j] = code.word(_mm512_loadu_si512(words + at), planes[j]);
      __builtin_prefetch(ahead + at);
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPairs; ++p) {
      const int pair = w * kPairs + p;
      __m512i wide[kVectors];
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) wide[j] = code.pair(word[j], p, pair * Code::kHigh);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const __m512i one = broadcast_pair(x[i] + col * 2 + pair * 4);
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j) acc[i][j] = dot(acc[i][j], one, wide[j]);
      }
    }
  }
}

// kRows rows of x by one chunk, one sum behind the other: two at once would read from two places of
// one page in turn, which the processor does not foresee. What a few accumulators wait for each
// other, the next sum fills: it begins from zero. sums: [row][16] of x, where there are offsets.
template <class Code, int kRows, bool kHasOffsets>
static void chunk_block(const Chunk& chunk, const char* const* x_rows, const float (*sums)[16],
                        float* out, int64_t out_stride) {
  const Code code(chunk.quant);
  constexpr int kVectors = V::kPanelVectors;
  const char* x[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) x[i] = x_rows[i];
  const int64_t sum_cols = chunk.quant.sum_cols;
  const float* scale = chunk.blocks.scale;
  const float* shift = chunk.blocks.shift;
  int64_t block_end =
      (chunk.first_col / chunk.quant.block_cols + 1) * chunk.quant.block_cols - chunk.first_col;
  int64_t sum = 0;
  for (int64_t col = 0; col < chunk.cols; col += sum_cols, ++sum) {
    if (col >= block_end) {
      scale += kWidth;
      shift += kWidth;
      block_end += chunk.quant.block_cols;
    }
    __m512 acc[kRows][kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) acc[i][j] = V::set(0.0f);
    }
    const int64_t end = col + sum_cols < chunk.cols ? col + sum_cols : chunk.cols;
    for (int64_t at = col; at < end; at += kHalf) add_half<Code, kRows>(code, chunk, at, x, acc);
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      const __m512 s = V::load(scale + j * V::kLanes);
      [[maybe_unused]] __m512 m = s;
      if constexpr (kHasOffsets) m = V::load(shift + j * V::kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        float* to = out + i * out_stride + j * V::kLanes;
        __m512 value = V::fma(s, acc[i][j], V::load(to));
        if constexpr (kHasOffsets) value = V::fma(m, V::set(sums[i][sum]), value);
        V::store(to, value);
      }
    }
  }
}

template <class Code, int kRows, bool kHasOffsets>
static void run_rows(int rows, const Chunk& chunk, const char* const* x_rows,
                     const float (*sums)[16], float* out, int64_t out_stride) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      run_rows<Code, kRows - 1, kHasOffsets>(rows, chunk, x_rows, sums, out, out_stride);
      return;
    }
  }
  using OfRows = typename Code::template OfRows<kRows>;
  chunk_block<OfRows, kRows, kHasOffsets>(chunk, x_rows, sums, out, out_stride);
}

// The rows of x of one task, in one chunk: what each panel of the task needs of them.
struct ChunkRows {
  const char* rows[kMaxTaskRows];
  float sums[kMaxTaskRows][16];
  // Rows of a chunk that ends before the slab does, with zeros behind them: what follows them may be
  // anything, and codes behind the last column have a value too.
  alignas(64) char padded[kMaxTaskRows][kChunk * 2];
};

template <bool kHasOffsets>
static void take_rows(const PanelTile& tile, int64_t chunk, ChunkRows* x) {
  const int64_t left = tile.k - chunk * kChunk;
  for (int64_t i = 0; i < tile.m; ++i) {
    x->rows[i] = tile.x_rows[i] + chunk * tile.x_slab_bytes;
    if (left < kChunk) {
      __builtin_memset(x->padded[i], 0, sizeof x->padded[i]);
      __builtin_memcpy(x->padded[i], x->rows[i], static_cast<size_t>(left) * 2);
      x->rows[i] = x->padded[i];
    }
    if constexpr (kHasOffsets) sum_row(x->rows[i], tile.quant->sum_cols, x->sums[i]);
  }
}

template <class Code, bool kHasOffsets>
static void bf16_chunk(const PanelTile& tile, const ChunkRows& x, int64_t panel, int64_t chunk) {
  const QuantPanel& quant = *tile.quant;
  BlockScales blocks;
  const PanelChunk opened =
      open_chunk(quant, tile.w + panel * tile.panel_bytes, tile.k, chunk, kFetchAhead, &blocks);
  if (kHasOffsets && quant.offset == SE_OFFSET_ZERO) {
    for (int64_t i = 0; i < opened.num_blocks * kWidth; ++i) blocks.shift[i] *= -blocks.scale[i];
  }
  const int64_t num_blocks = (tile.m + kMostRows - 1) / kMostRows;
  int64_t row = 0;
  for (int64_t block = 0; block < num_blocks; ++block) {
    const int64_t end = tile.m * (block + 1) / num_blocks;
    float* out = tile.out + row * tile.out_stride + panel * kWidth;
    if (chunk == 0) {
      for (int64_t i = 0; i < end - row; ++i)
        __builtin_memset(out + i * tile.out_stride, 0, kWidth * sizeof *out);
    }
    const Chunk part = {quant,       opened.codes, blocks,
                        opened.from, opened.cols,  block == 0 ? kFetchAhead : 0};
    run_rows<Code, kMostRows, kHasOffsets>(static_cast<int>(end - row), part, x.rows + row,
                                           x.sums + row, out, tile.out_stride);
    row = end;
  }
}

template <class Code, bool kHasOffsets>
static void bf16_panels(const PanelTile& tile) {
  const int64_t num_chunks = tile.quant->num_chunks;
  ChunkRows x;
  // Few rows wait for memory: what they need of a chunk costs less than two streams.
  if (tile.m <= kMostRows) {
    for (int64_t panel = 0; panel < tile.num_panels; ++panel) {
      for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
        take_rows<kHasOffsets>(tile, chunk, &x);
        bf16_chunk<Code, kHasOffsets>(tile, x, panel, chunk);
      }
    }
    return;
  }
  for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
    take_rows<kHasOffsets>(tile, chunk, &x);
    for (int64_t panel = 0; panel < tile.num_panels; ++panel)
      bf16_chunk<Code, kHasOffsets>(tile, x, panel, chunk);
  }
}

template <class Code>
static void bf16_matmul(const PanelTile& tile) {
  if (tile.quant->offset == SE_OFFSET_NONE) {
    bf16_panels<Code, false>(tile);
  } else {
    bf16_panels<Code, true>(tile);
  }
}
