// Quantised panels decoded to f32, included by each instruction set's file inside its unnamed
// namespace. A weight is exactly what SeMatrixFormat says: one rounding per operation.
//
// Codes lie in tiles of 32 columns. A row has 32-bit words, and the words of all rows of a panel
// lie side by side, so that a vector has one word of each of its rows. A code of up to 4 bits, or
// of 8, is one field of a word; of 3, 5 and 6 bits, the low 2 or 4 bits are, and the high ones are
// fields of a plane before them. Fields of b bits: a word has 32 / b columns, the even ones from
// bit 0 on, the odd ones from bit 16 on.

typedef uint32_t Word __attribute__((vector_size(V::kLanes * 4)));
typedef int32_t SignedWord __attribute__((vector_size(V::kLanes * 4)));
typedef float FloatWord __attribute__((vector_size(V::kLanes * 4)));

constexpr int low_bits(int code) {
  if (code == SE_CODE_I8 || code == SE_CODE_E4M3) return 8;
  return code == SE_CODE_U2 || code == SE_CODE_U3 ? 2 : 4;
}
constexpr int high_bits(int code) {
  return code == SE_CODE_U6 ? 2 : code == SE_CODE_U3 || code == SE_CODE_U5 ? 1 : 0;
}
// Bytes of a tile: of one bit, each row has a word.
template <int kCode>
constexpr int64_t kTileBytes = (low_bits(kCode) + high_bits(kCode)) * kWidth * 4;

// The first bit of column `col` of a word with fields of some bits.
constexpr int field_shift(int col, int bits) { return col % 2 * 16 + col / 2 * bits; }

static inline Word load_word(const char* p) {
  Word word;
  __builtin_memcpy(&word, p, sizeof word);
  return word;
}

// Four codes of a row of x.
static inline int32_t load_quad(const int8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, sizeof quad);
  return quad;
}

// Whether 16 bits hold the products of half the columns of a tile, with weights of up to `most`.
constexpr bool fits_16_bits(int most) { return kTile / 2 * most * 127 <= 32767; }

// What the field at `shift` of a word of e4m3 codes stands for; see e4m3_to_f32.
static inline V::Float e4m3_values(Word word, int shift) {
  const Word top = word << (24 - shift);
  const Word bits = ((top >> 4) & 0x07f00000u) + (120u << 23);
  const V::Float normal = (V::Float)bits;
  const V::Float value = V::min(V::fma(normal, V::set(2.0f), V::set(-0.015625f)), normal);
  // 480 is the code of NaN, and 448 the greatest value.
  const V::Float nan = V::set(float_of_bits(0x7fc00000u));
  const V::Float checked = V::where_negative(V::sub(V::set(479.0f), normal), nan, value);
  return (V::Float)((Word)checked | (top & 0x80000000u));
}

// Which operations follow the value of a code.
enum class Shift { kNone, kZero, kAdd };

// The value of column `col` of a half of a tile, before offsets and scales: its word has it at bit
// `at`; `plane` has the high bits of the half's columns, where codes have some.
template <int kCode, bool kIsTable, int kHalf>
__attribute__((always_inline)) static inline V::Float code_value(const QuantPanel& quant, Word word,
                                                                 Word plane, int at, int col) {
  constexpr int kLow = low_bits(kCode);
  constexpr int kHigh = high_bits(kCode);
  if constexpr (kCode == SE_CODE_E4M3) {
    return e4m3_values(word, at);
  } else if constexpr (kCode == SE_CODE_I8) {
    const SignedWord code = (SignedWord)(word << (24 - at)) >> 24;
    return (V::Float) __builtin_convertvector(code, FloatWord);
  } else if constexpr (kIsTable) {
    return V::lookup16(quant.values, (V::Index)(word >> at));
  } else {
    Word code = (word >> at) & ((1u << kLow) - 1u);
    if constexpr (kHigh > 0) {
      const int high_at = field_shift(kHigh == 2 ? col : kHalf * 16 + col, kHigh);
      code |= ((plane >> high_at) & ((1u << kHigh) - 1u)) << kLow;
    }
    const SignedWord number = (SignedWord)code - quant.bias;
    return (V::Float) __builtin_convertvector(number, FloatWord);
  }
}

// The weight of a code of that value.
template <Shift kShift>
static inline V::Float scaled_value(V::Float value, V::Float scale, V::Float shift) {
  if constexpr (kShift == Shift::kZero) value = V::sub(value, shift);
  V::Float weight = V::mul(value, scale);
  if constexpr (kShift == Shift::kAdd) weight = V::add(weight, shift);
  return weight;
}

// Where the words of a half lie in its tile.
template <int kCode>
constexpr int64_t words_of_half(int half) {
  return (high_bits(kCode) + half * (low_bits(kCode) / 2)) * kWidth * 4;
}

// The high bits of a half's columns: a word of them has one bit of 32 columns, or two of 16.
template <int kCode, int kHalf>
static inline Word plane_of_half(const char* tile) {
  constexpr int kHigh = high_bits(kCode);
  if constexpr (kHigh > 0) return load_word(tile + (kHigh - 1) * kHalf * kWidth * 4);
  return Word{};
}

// 16 columns of one vector of rows, half `kHalf` of a tile, as [column][row of the panel].
template <int kCode, bool kIsTable, Shift kShift, int kHalf>
static inline void decode_half(const QuantPanel& quant, const char* tile, const float* scale,
                               const float* shift, float* out) {
  constexpr int kLow = low_bits(kCode);
  constexpr int kPerWord = 32 / kLow;
  const V::Float s = V::load(scale);
  V::Float added = V::set(0.0f);
  if constexpr (kShift != Shift::kNone) added = V::load(shift);
  const Word plane = plane_of_half<kCode, kHalf>(tile);
  const char* words = tile + words_of_half<kCode>(kHalf);
#pragma GCC unroll 4
  for (int w = 0; w < kLow / 2; ++w) {
    const Word word = load_word(words + w * kWidth * 4);
#pragma GCC unroll 16
    for (int i = 0; i < kPerWord; ++i) {
      const int col = w * kPerWord + i;
      const V::Float value =
          code_value<kCode, kIsTable, kHalf>(quant, word, plane, field_shift(i, kLow), col);
      V::store(out + col * kWidth, scaled_value<kShift>(value, s, added));
    }
  }
}

// Columns [from, from + length) of a panel, from a multiple of kTile and within one chunk, as an
// f32 panel: [column][row]. It writes whole halves of tiles: up to 15 columns more.
template <int kCode, bool kIsTable, Shift kShift>
static void decode_piece(const QuantPanel& quant, const char* panel, int64_t from, int64_t length,
                         float* out) {
  const int64_t chunk = from / kChunk;
  const int64_t first_block = from / quant.block_cols;
  const int64_t last_block = (from + length - 1) / quant.block_cols;
  BlockScales blocks;
  load_scales(quant, panel, chunk, first_block, last_block - first_block + 1, &blocks);
  const QuantChunk& places = chunk + 1 == quant.num_chunks ? quant.last : quant.whole;
  const char* tile = panel + quant.header_bytes + chunk * quant.chunk_bytes + places.codes +
                     from % kChunk / kTile * kTileBytes<kCode>;
  const float* scale = blocks.scale;
  const float* shift = blocks.shift;
  int64_t block_end = (first_block + 1) * quant.block_cols;
  const auto half = [&](auto which, int64_t col) __attribute__((always_inline)) {
    if (col >= block_end) {
      scale += kWidth;
      shift += kWidth;
      block_end += quant.block_cols;
    }
    for (int j = 0; j < kWidth; j += V::kLanes) {
      float* to = out + (col - from) * kWidth + j;
      decode_half<kCode, kIsTable, kShift, decltype(which)::value>(quant, tile + j * 4, scale + j,
                                                                   shift + j, to);
    }
  };
  for (int64_t col = from; col < from + length; col += kTile) {
    half(Steps<0>{}, col);
    if (col + kTile / 2 < from + length) half(Steps<1>{}, col + kTile / 2);
    tile += kTileBytes<kCode>;
  }
}
