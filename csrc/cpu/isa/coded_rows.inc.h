// What a chunk of panels needs of rows of codes (CodedSlab in cpu/isa/isa.h): included by what multiplies
// them by half a tile.

constexpr int64_t kHalfTile = kTile / 2;

// One row of x in one chunk, the numbers by units. Rows of a block lie side by side, so that one
// pointer reaches all of them.
struct ChunkRow {
  alignas(64) int8_t codes[kChunk];
  int32_t start[kChunk / kHalfTile];  // what a bias of the weights' bytes adds, taken off
  float scale[kChunk / kHalfTile];
  // What zero points multiply, the sum of codes; or offsets, that times its scale.
  float sum[kChunk / kHalfTile];
};

// Puts the codes of a chunk where those of row `row` of `count` belong.
static void place_codes(const int8_t* codes, int64_t row, int64_t count, ChunkRow* rows);

typedef int32_t Sums8 __attribute__((vector_size(32)));
typedef float Scales8 __attribute__((vector_size(32)));

// Eight units from `first` on.
static inline void take_units(const Sums8& sums, const Scales8& scales, int32_t bias,
                              bool is_scaled, int first, ChunkRow* row) {
  const Sums8 start = sums * -bias;
  Scales8 products = __builtin_convertvector(sums, Scales8);
  if (is_scaled) products *= scales;
  __builtin_memcpy(row->start + first, &start, sizeof start);
  __builtin_memcpy(row->scale + first, &scales, sizeof scales);
  __builtin_memcpy(row->sum + first, &products, sizeof products);
}

// The rows of a task in one chunk: what each of its panels needs of them.
static void take_coded_rows(const PanelTile& tile, int64_t chunk, int64_t halves, int32_t bias,
                            ChunkRow* rows) {
  const bool is_scaled = tile.quant->offset != SE_OFFSET_ZERO;
  for (int64_t i = 0; i < tile.m; ++i) {
    const char* at = tile.x_rows[i] + chunk * tile.x_slab_bytes;
    const CodedSlab& x = *reinterpret_cast<const CodedSlab*>(at);
    place_codes(x.codes, i, tile.m, rows);
    // The sums of two halves lie in one word.
    Sums8 pairs;
    Scales8 scales;
    __builtin_memcpy(&pairs, x.sums, sizeof pairs);
    __builtin_memcpy(&scales, x.scales, sizeof scales);
    const Sums8 even = (pairs << 16) >> 16;
    const Sums8 odd = pairs >> 16;
    if (halves == 2) {
      take_units(even + odd, scales, bias, is_scaled, 0, rows + i);
      continue;
    }
    take_units(__builtin_shufflevector(even, odd, 0, 8, 1, 9, 2, 10, 3, 11),
               __builtin_shufflevector(scales, scales, 0, 0, 1, 1, 2, 2, 3, 3), bias, is_scaled, 0,
               rows + i);
    take_units(__builtin_shufflevector(even, odd, 4, 12, 5, 13, 6, 14, 7, 15),
               __builtin_shufflevector(scales, scales, 4, 4, 5, 5, 6, 6, 7, 7), bias, is_scaled, 8,
               rows + i);
  }
}
