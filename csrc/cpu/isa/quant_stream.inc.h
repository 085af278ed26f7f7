// One or two rows of f32 activations by quantised panels, included by each instruction set's file
// inside its unnamed namespace: a weight is decoded and multiplied in registers.
//
// The bits are those of decode_piece and panel_block: the same weights, the same multiply-adds in
// the same pieces of K. Two panels pass at once where one has too few vectors of rows to hide the
// latency of a multiply-add.
//
// Numbers of 4 bits are not shifted down. A field at bit p, masked and converted, is 2^p times
// its code, and the scale it meets is 2^-p times as large: both are exact, for scales that are not
// tiny. A bias is taken off within the product, fma(code, scale, -bias * scale), where bias * scale
// is exact: the bias is a power of two. That rounds once, as (code - bias) * scale does, and gives
// the same weight, except +0 for -0 and where bias * scale is not finite. Sums that can tell
// (they are 0, infinite or NaN) are made again from decoded weights, as all are whose scales are
// tiny.

// Scales of less are tiny: 2^-100, as the bits of an f32.
constexpr uint32_t kTinyScale = (127u - 100u) << 23;

// Panels that pass at once: four sums hide the latency, more lack registers.
constexpr int stream_panels_at_once(int rows) { return rows * V::kPanelVectors >= 4 ? 1 : 2; }

// Whether codes can stay where their word has them. Those of 2 bits have eight places, and scales
// for as many cost more than shifts.
template <int kCode, bool kIsTable>
constexpr bool kStaysInPlace = kCode == SE_CODE_U4 && !kIsTable;

// The same, by what a matrix has.
template <Shift kShift>
static inline bool stays_in_place(const QuantPanel& quant) {
  if (kShift == Shift::kNone) return (quant.bias & (quant.bias - 1)) == 0;
  return kShift == Shift::kZero || quant.bias == 0;
}

// Panels that pass at once, and a piece of their columns.
struct CodeStream {
  const char* panel;  // the first; the others lie panel_bytes apart
  int64_t panel_bytes;
  int64_t x_offset;
  int64_t from;  // columns
  int64_t length;
};

// Sums of a piece of one panel from decoded weights: one or two rows, sums_stride apart.
template <int kRows>
__attribute__((noinline)) static void decoded_sums(const PanelTile& tile, const CodeStream& stream,
                                                   DecodeFunction decode, float* sums,
                                                   int64_t sums_stride) {
  alignas(64) float piece[PanelTraits<SE_F32>::kPiece * kWidth];
  decode(*tile.quant, stream.panel, stream.from, stream.length, piece);
  panel_block<PanelTraits<SE_F32>, kRows, false>(tile.x_rows, stream.x_offset,
                                                 reinterpret_cast<const char*>(piece), stream.panel,
                                                 0, stream.length, true, sums, sums_stride);
}

// Whether a scale is tiny but not zero.
static inline bool has_tiny(const float* scales, int64_t n) {
  uint32_t least = ~0u;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, scales + i, sizeof bits);
    const uint32_t magnitude = (bits << 1) - 1u;  // of zero it is the greatest
    least = magnitude < least ? magnitude : least;
  }
  return least < (kTinyScale << 1) - 1u;
}

// Whether a sum is zero, infinite or NaN.
static inline bool has_special(const float* sums, int64_t n) {
  uint32_t greatest = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, sums + i, sizeof bits);
    const uint32_t magnitude = (bits << 1) - 1u;
    greatest = magnitude > greatest ? magnitude : greatest;
  }
  return greatest >= 0xff000000u - 1u;
}

// What makes weights of a block's codes, one of each for a vector of rows, by position of the code.
template <int kStreams, int kPositions>
struct StreamScales {
  V::Float scale[kPositions][kStreams];
  V::Float shift[kPositions][kStreams];
};

template <Shift kShift, int kLow, int kStreams, int kPositions>
__attribute__((always_inline)) static inline void place_scales(
    const QuantPanel& quant, const BlockScales* blocks, int64_t block,
    StreamScales<kStreams, kPositions>* out) {
#pragma GCC unroll 16
  for (int j = 0; j < kStreams; ++j) {
    const int64_t at = block * kWidth + j % V::kPanelVectors * V::kLanes;
    const BlockScales& of_panel = blocks[j / V::kPanelVectors];
    const V::Float scale = V::load(of_panel.scale + at);
    V::Float shift = V::set(0.0f);
    if constexpr (kShift != Shift::kNone) shift = V::load(of_panel.shift + at);
    if constexpr (kPositions == 1) {
      out->scale[0][j] = scale;
      out->shift[0][j] = shift;
    } else {
      const V::Float bias = V::set(static_cast<float>(quant.bias));
      if constexpr (kShift == Shift::kNone) shift = V::mul(V::sub(shift, bias), scale);
      if constexpr (kShift == Shift::kZero) shift = V::add(shift, bias);
#pragma GCC unroll 16
      for (int p = 0; p < kPositions; ++p) {
        const float up = static_cast<float>(1 << (p * kLow));
        out->scale[p][j] = V::mul(scale, V::set(1.0f / up));
        out->shift[p][j] = kShift == Shift::kZero ? V::mul(shift, V::set(up)) : shift;
      }
    }
  }
}

// The sums of a piece, [row][panel][row of the panel]. Whether they are those of the decoded
// weights.
template <int kCode, bool kIsTable, Shift kShift, int kRows, bool kInPlace>
static bool stream_sums(const PanelTile& tile, const CodeStream& stream, float* sums) {
  using Traits = PanelTraits<SE_F32>;
  constexpr int kVectors = V::kPanelVectors;
  constexpr int kStreamPanels = stream_panels_at_once(kRows);
  constexpr int kStreams = kStreamPanels * kVectors;
  constexpr int kLow = low_bits(kCode);
  constexpr int kPerWord = 32 / kLow;
  constexpr int kPositions = kInPlace ? 16 / kLow : 1;
  const QuantPanel& quant = *tile.quant;
  const int64_t chunk = stream.from / kChunk;
  const int64_t first_block = stream.from / quant.block_cols;
  const int64_t last_block = (stream.from + stream.length - 1) / quant.block_cols;
  const int64_t num_blocks = last_block - first_block + 1;
  BlockScales blocks[kStreamPanels];
  for (int p = 0; p < kStreamPanels; ++p) {
    load_scales(quant, stream.panel + p * stream.panel_bytes, chunk, first_block, num_blocks,
                blocks + p);
    if (kInPlace && has_tiny(blocks[p].scale, num_blocks * kWidth)) return false;
  }
  const QuantChunk& places = chunk + 1 == quant.num_chunks ? quant.last : quant.whole;
  const char* codes = stream.panel + quant.header_bytes + chunk * quant.chunk_bytes + places.codes +
                      stream.from % kChunk / kTile * kTileBytes<kCode>;
  const char* x[kRows];
  typename Traits::Acc acc[kRows][kStreams];
#pragma GCC unroll 2
  for (int r = 0; r < kRows; ++r) {
    x[r] = tile.x_rows[r] + stream.x_offset;
#pragma GCC unroll 16
    for (int j = 0; j < kStreams; ++j) acc[r][j] = V::set(0.0f);
  }
  StreamScales<kStreams, kPositions> scales = {};
  // Columns of one word of each vector of rows.
  const auto word_columns = [&](auto which, const char* at, const Word* plane,
                                int first_col) __attribute__((always_inline)) {
    Word word[kStreams];
    [[maybe_unused]] Word upper[kStreams];
#pragma GCC unroll 16
    for (int j = 0; j < kStreams; ++j) {
      word[j] = load_word(at + j / kVectors * stream.panel_bytes + j % kVectors * V::kLanes * 4);
      upper[j] = word[j] >> 16;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kPerWord; ++i) {
      typename Traits::X xs[kRows];
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) xs[r] = Traits::broadcast(x[r] + i * Traits::kXBytes);
#pragma GCC unroll 16
      for (int j = 0; j < kStreams; ++j) {
        V::Float weight;
        if constexpr (kInPlace) {
          const int p = i / 2;
          const Word field =
              (i % 2 == 0 ? word[j] : upper[j]) & (((1u << kLow) - 1u) << (p * kLow));
          const V::Float value = (V::Float) __builtin_convertvector((SignedWord)field, FloatWord);
          if constexpr (kShift == Shift::kNone) {
            weight = V::fma(value, scales.scale[p][j], scales.shift[p][j]);
          } else {
            weight = scaled_value<kShift>(value, scales.scale[p][j], scales.shift[p][j]);
          }
        } else {
          const V::Float value = code_value<kCode, kIsTable, decltype(which)::value>(
              quant, word[j], plane[j], field_shift(i, kLow), first_col + i);
          weight = scaled_value<kShift>(value, scales.scale[0][j], scales.shift[0][j]);
        }
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) acc[r][j] = Traits::multiply_add(acc[r][j], xs[r], weight);
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) x[r] += kPerWord * Traits::kXBytes;
  };
  int64_t block = 0;
  int64_t block_end = stream.from;
  const int64_t end = stream.from + stream.length;
  const auto begin_half = [&](int64_t col) __attribute__((always_inline)) {
    if (col < block_end) return;
    place_scales<kShift, kLow>(quant, blocks, block, &scales);
    block_end = (first_block + ++block) * quant.block_cols;
  };
  // Codes with high bits: a half whose place is known, for shifts by constants.
  [[maybe_unused]] const auto half = [&](auto which) __attribute__((always_inline)) {
    constexpr int kHalf = decltype(which)::value;
    Word plane[kStreams];
#pragma GCC unroll 16
    for (int j = 0; j < kStreams; ++j)
      plane[j] = plane_of_half<kCode, kHalf>(codes + j / kVectors * stream.panel_bytes +
                                             j % kVectors * V::kLanes * 4);
#pragma GCC unroll 4
    for (int w = 0; w < kLow / 2; ++w)
      word_columns(which, codes + words_of_half<kCode>(kHalf) + w * kWidth * 4, plane,
                   w * kPerWord);
  };
  constexpr int64_t kLineBytes = 64;
  for (int64_t col = stream.from; col < end; col += kTile) {
#pragma GCC unroll 2
    for (int p = 0; p < kStreamPanels; ++p) {
      const char* ahead = codes + p * stream.panel_bytes + kStreamAhead / kStreamPanels;
#pragma GCC unroll 16
      for (int64_t line = 0; line < kTileBytes<kCode>; line += kLineBytes)
        __builtin_prefetch(ahead + line);
    }
    if constexpr (high_bits(kCode) > 0) {
      begin_half(col);
      half(Steps<0>{});
      if (col + kTile / 2 < end) {
        begin_half(col + kTile / 2);
        half(Steps<1>{});
      }
    } else {
      // Every word is the same work, and a loop over them is little code.
      constexpr Word kNoHighBits[kStreams] = {};
      const int num_words = col + kTile / 2 < end ? kLow : kLow / 2;
#pragma GCC unroll 1
      for (int w = 0; w < num_words; ++w) {
        if (w % (kLow / 2) == 0) begin_half(col + w * kPerWord);
        word_columns(Steps<0>{}, codes + w * kWidth * 4, kNoHighBits, 0);
      }
    }
    codes += kTileBytes<kCode>;
  }
#pragma GCC unroll 2
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < kStreams; ++j) V::store(sums + (r * kStreams + j) * V::kLanes, acc[r][j]);
  }
  return !kInPlace || kShift != Shift::kNone || !has_special(sums, kRows * kStreams * V::kLanes);
}

template <int kCode, bool kIsTable, Shift kShift, int kRows>
static void stream_codes(const PanelTile& tile) {
  using Traits = PanelTraits<SE_F32>;
  constexpr int kStreamPanels = stream_panels_at_once(kRows);
  constexpr int kSumsStride = kStreamPanels * kWidth;
  const auto general = stream_sums<kCode, kIsTable, kShift, kRows, false>;
  auto fast = general;
  if constexpr (kStaysInPlace<kCode, kIsTable>) {
    if (stays_in_place<kShift>(*tile.quant))
      fast = stream_sums<kCode, kIsTable, kShift, kRows, true>;
  }
  for (int64_t panel = 0; panel < tile.num_panels; panel += kStreamPanels) {
    // A last panel alone passes beside itself.
    const int64_t left = tile.num_panels - panel;
    const int64_t count = left < kStreamPanels ? left : kStreamPanels;
    const int64_t apart = count < kStreamPanels ? 0 : tile.panel_bytes;
    const char* w = tile.w + panel * tile.panel_bytes;
    for_pieces<Traits>(tile, [&](int64_t x_at, int64_t w_at, int64_t length, bool is_first) {
      const int64_t from = w_at / (kWidth * Traits::kXBytes);
      alignas(64) float sums[kRows * kSumsStride];
      const CodeStream stream{w, apart, x_at, from, length};
      // Halves of tiles are whole here; what x has behind its columns means nothing.
      const bool is_done = length % (kTile / 2) == 0 && fast(tile, stream, sums);
      for (int64_t p = 0; p < count; ++p) {
        float* of_panel = sums + p * kWidth;
        if (!is_done) {
          const CodeStream one{w + p * apart, 0, x_at, from, length};
          decoded_sums<kRows>(tile, one, decode_piece<kCode, kIsTable, kShift>, of_panel,
                              kSumsStride);
        }
        for (int64_t r = 0; r < kRows; ++r) {
          float* out = tile.out + r * tile.out_stride + (panel + p) * kWidth;
          for (int64_t i = 0; i < kWidth; ++i) {
            const float sum = of_panel[r * kSumsStride + i];
            out[i] = is_first ? sum : out[i] + sum;
          }
        }
      }
    });
  }
}
