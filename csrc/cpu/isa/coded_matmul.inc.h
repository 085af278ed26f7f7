// The matmul of rows of codes by quantised panels (MatmulKernel in cpu/isa/isa.h), included inside an
// unnamed namespace behind quant_decode.inc.h, the instruction set's Dot, and what multiplies half a tile:
// coded_quads.inc.h, or coded_pairs.inc.h.
//
//   for each panel:
//     for a chunk of K:
//       widen its scales and offsets to f32
//       for up to kMostCodedRows rows of x: for a unit of columns: sum of integers, scale, add to out
//
// A unit is 32 columns, or 16 where blocks of weights are no multiple of 32: one scale of x, one of
// each row of the panel. Few rows read one panel at a time, because more streams at once are read more
// slowly than one.

// How far ahead of the codes in use to fetch.
constexpr int64_t kCodedAhead = 8192;

// One chunk of one panel.
struct CodedChunk {
  const QuantPanel& quant;
  const char* codes;
  const BlockScales& blocks;
  int64_t first_col;  // of the matrix
  int64_t cols;
  bool fetches;  // what comes kCodedAhead later
};

// Adds a unit's sums to what came before.
template <class D, Shift kShift, int kRows>
__attribute__((always_inline)) static inline void add_unit(
    const ChunkRow* rows, int64_t number, const float* scale, const float* shift,
    const typename D::Acc (&acc)[kRows][V::kPanelVectors], float (&out)[kRows][kWidth]) {
#pragma GCC unroll 4
  for (int j = 0; j < V::kPanelVectors; ++j) {
    const V::Float s = V::load(scale + j * V::kLanes);
    [[maybe_unused]] V::Float m = s;
    if constexpr (kShift != Shift::kNone) m = V::load(shift + j * V::kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      float* to = out[i] + j * V::kLanes;
      V::Float sum = D::finish(sum_of<D, kRows>(acc, i, j), rows[i].start[number]);
      if constexpr (kShift == Shift::kZero)
        sum = V::sub(sum, V::mul(m, V::set(rows[i].sum[number])));
      V::Float value = V::fma(s, V::mul(V::set(rows[i].scale[number]), sum), V::load(to));
      if constexpr (kShift == Shift::kAdd) value = V::fma(m, V::set(rows[i].sum[number]), value);
      V::store(to, value);
    }
  }
}

// kRows rows of x by one chunk, in units of kHalves halves of a tile.
template <int kCode, bool kIsTable, int kHalves, int kRows>
__attribute__((noinline)) static void coded_block(const CodedChunk& chunk, const ChunkRow* rows,
                                                  bool is_first, float* out, int64_t out_stride) {
  using Weights = WeightBytes<kCode, kIsTable>;
  using D = typename Weights::D;
  constexpr int kVectors = V::kPanelVectors;
  constexpr int64_t kUnit = kHalves * kHalfTile;
  const Weights weights(chunk.quant);
  const int32_t offset = chunk.quant.offset;
  const int64_t block_cols = chunk.quant.block_cols;
  int64_t block_left = block_cols - chunk.first_col % block_cols;
  const float* scale = chunk.blocks.scale;
  const float* shift = chunk.blocks.shift;
  const char* tile = chunk.codes;
  alignas(64) float total[kRows][kWidth];
  for (int i = 0; i < kRows; ++i) {
    if (is_first) {
      __builtin_memset(total[i], 0, sizeof total[i]);
    } else {
      __builtin_memcpy(total[i], out + i * out_stride, sizeof total[i]);
    }
  }
  const int64_t num_units = (chunk.cols + kUnit - 1) / kUnit;
  for (int64_t number = 0; number < num_units; ++number) {
    const int64_t col = number * kUnit;
    const int64_t half = kHalves == 1 ? number & 1 : 0;
    if (chunk.fetches) {
      for (int64_t line = 0; line < kTileBytes<kCode> * kHalves / 2; line += 64)
        __builtin_prefetch(tile + half * kTileBytes<kCode> / 2 + line + kCodedAhead);
    }
    typename D::Acc acc[kRows][kVectors];
    begin_sums<D, kRows>(rows, number, acc);
    add_half_tile<Weights, kRows>(weights, tile, half, rows, col, acc);
    if constexpr (kHalves == 2)
      add_half_tile<Weights, kRows>(weights, tile, 1, rows, col + kHalfTile, acc);
    if (offset == SE_OFFSET_NONE) {
      add_unit<D, Shift::kNone, kRows>(rows, number, scale, shift, acc, total);
    } else if (offset == SE_OFFSET_ZERO) {
      add_unit<D, Shift::kZero, kRows>(rows, number, scale, shift, acc, total);
    } else {
      add_unit<D, Shift::kAdd, kRows>(rows, number, scale, shift, acc, total);
    }
    if (kHalves == 2 || half == 1) tile += kTileBytes<kCode>;
    block_left -= kUnit;
    if (block_left == 0) {
      scale += kWidth;
      shift += kWidth;
      block_left = block_cols;
    }
  }
  for (int i = 0; i < kRows; ++i) __builtin_memcpy(out + i * out_stride, total[i], sizeof total[i]);
}

template <int kCode, bool kIsTable, int kHalves, int kRows>
static void coded_rows(int64_t count, const CodedChunk& chunk, const ChunkRow* rows, bool is_first,
                       float* out, int64_t out_stride) {
  if constexpr (kRows > 1) {
    if (count < kRows) {
      coded_rows<kCode, kIsTable, kHalves, kRows - 1>(count, chunk, rows, is_first, out,
                                                      out_stride);
      return;
    }
  }
  coded_block<kCode, kIsTable, kHalves, kRows>(chunk, rows, is_first, out, out_stride);
}

template <int kCode, bool kIsTable>
static void coded_chunk(const PanelTile& tile, const ChunkRow* rows, int64_t halves, int64_t panel,
                        int64_t chunk) {
  const QuantPanel& quant = *tile.quant;
  BlockScales blocks;
  const PanelChunk opened =
      open_chunk(quant, tile.w + panel * tile.panel_bytes, tile.k, chunk, kCodedAhead, &blocks);
  if constexpr (kIsTable) {
    for (int64_t i = 0; i < opened.num_blocks * kWidth; ++i) blocks.scale[i] *= quant.factor;
  }
  const int64_t num_blocks = (tile.m + kMostCodedRows - 1) / kMostCodedRows;
  const int64_t num_groups = (tile.m + kRowsTogether - 1) / kRowsTogether;
  const auto run = halves == 1 ? coded_rows<kCode, kIsTable, 1, kMostCodedRows>
                               : coded_rows<kCode, kIsTable, 2, kMostCodedRows>;
  int64_t row = 0;
  for (int64_t block = 0; block < num_blocks; ++block) {
    const int64_t whole = num_groups * (block + 1) / num_blocks * kRowsTogether;
    const int64_t end = whole < tile.m ? whole : tile.m;
    const CodedChunk part = {quant, opened.codes, blocks, opened.from, opened.cols, block == 0};
    run(end - row, part, rows + row, chunk == 0, tile.out + row * tile.out_stride + panel * kWidth,
        tile.out_stride);
    row = end;
  }
}

template <int kCode, bool kIsTable>
static void coded_product(const PanelTile& tile) {
  const int64_t halves = tile.quant->sum_cols == kHalfTile ? 1 : 2;
  const int32_t bias = (kIsTable ? 0 : tile.quant->bias) + WeightBytes<kCode, kIsTable>::D::kBias;
  ChunkRow rows[kMaxTaskRows];
  // Few rows wait for memory: what they need of a chunk costs less than two streams.
  const bool is_few = tile.m <= kMostCodedRows;
  const int64_t num_passes = is_few ? tile.num_panels : 1;
  const int64_t panels_of_pass = is_few ? 1 : tile.num_panels;
  for (int64_t pass = 0; pass < num_passes; ++pass) {
    for (int64_t chunk = 0; chunk < tile.quant->num_chunks; ++chunk) {
      take_coded_rows(tile, chunk, halves, bias, rows);
      for (int64_t panel = pass; panel < pass + panels_of_pass; ++panel)
        coded_chunk<kCode, kIsTable>(tile, rows, halves, panel, chunk);
    }
  }
}

template <int kCode>
static void coded_matmul(const PanelTile& tile) {
  if constexpr (kCode == SE_CODE_U4) {
    if (!tile.quant->is_affine) {
      coded_product<kCode, true>(tile);
      return;
    }
  }
  coded_product<kCode, false>(tile);
}

constexpr CodedProducts kCodedProducts = {
    {{kCodedRows, SE_CODE_U2, nullptr, coded_matmul<SE_CODE_U2>},
     {kCodedRows, SE_CODE_U3, nullptr, coded_matmul<SE_CODE_U3>},
     {kCodedRows, SE_CODE_U4, nullptr, coded_matmul<SE_CODE_U4>},
     {kCodedRows, SE_CODE_U5, nullptr, coded_matmul<SE_CODE_U5>},
     {kCodedRows, SE_CODE_U6, nullptr, coded_matmul<SE_CODE_U6>},
     {kCodedRows, SE_CODE_I8, nullptr, coded_matmul<SE_CODE_I8>}}};
