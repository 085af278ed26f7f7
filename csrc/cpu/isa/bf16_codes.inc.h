// Codes of quantised panels as pairs of bf16, included inside an unnamed namespace. A word of codes
// (cpu/layouts/quant_panels.h) holds the even columns in its low half and the odd ones in its high
// half, so pair p is the fields number p of both halves.
//
// Each class: kLow and kHigh, bits of a field of words and of the plane before them; Word, what is
// made once of a vector of words; word(); pair(word, p), one vector of pairs.

typedef uint16_t Halves __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int32_t SignedWords __attribute__((vector_size(64)));

static inline __m512i halves_shifted(__m512i halves, int right) {
  return right >= 0 ? (__m512i)((Halves)halves >> right) : (__m512i)((Halves)halves << -right);
}
static inline __m512i all_halves(int value) { return _mm512_set1_epi32(value << 16 | value); }
// Bits of `yes` where `mask` has ones, else of `no`.
static inline __m512i select_bits(__m512i mask, __m512i yes, __m512i no) {
  return _mm512_ternarylogic_epi32(mask, yes, no, 0xca);
}

// Indices into a value table. Permutations look at the bits of an index that they need: 5, or 6
// with two tables. Where codes have fewer, the table repeats.
template <int kLowBits, int kHighBits>
struct IndexCode {
  static constexpr int kLow = kLowBits;
  static constexpr int kHigh = kHighBits;
  struct Word {
    __m512i low;
    __m512i plane;  // its fields are those of this word's columns
  };
  __m512i table;
  __m512i second;

  explicit IndexCode(const QuantPanel& quant)
      : table(_mm512_loadu_si512(quant.bf16_values)),
        second(_mm512_loadu_si512(quant.bf16_values + 32)) {}

  static Word word(__m512i low, __m512i plane) { return {low, plane}; }
  // `field`: where the pair's field of the plane begins.
  __attribute__((always_inline)) __m512i pair(const Word& word, int p, int field) const {
    const __m512i low = halves_shifted(word.low, p * kLow);
    if constexpr (kHigh == 0) return _mm512_permutexvar_epi16(low, table);
    const __m512i index =
        select_bits(all_halves((1 << kLow) - 1), low, halves_shifted(word.plane, field - kLow));
    if constexpr (kLow + kHigh <= 5) return _mm512_permutexvar_epi16(index, table);
    return _mm512_permutex2var_epi16(table, index, second);
  }
};

// Integers of 8 bits are exact in bf16: the upper half of their f32.
struct I8Code {
  static constexpr int kLow = 8;
  static constexpr int kHigh = 0;
  struct Word {
    SignedWords codes;
  };

  explicit I8Code(const QuantPanel&) {}
  static Word word(__m512i low, __m512i) { return {(SignedWords)low}; }
  __attribute__((always_inline)) __m512i pair(const Word& word, int p, int) const {
    const auto value = [&](int left) __attribute__((always_inline)) {
      const SignedWords number = (SignedWords)((Words)word.codes << left) >> 24;
      return (Words)_mm512_castps_si512(_mm512_cvtepi32_ps((__m512i)number));
    };
    return (__m512i)(value(24 - 8 * p) >> 16 | value(8 - 8 * p));
  }
};

// bf16 of the 128 magnitudes of e4m3, their low and high bytes. Each is exact.
struct E4m3Bytes {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];
};
constexpr E4m3Bytes make_e4m3_bytes() {
  E4m3Bytes bytes = {};
  for (int code = 0; code < 128; ++code) {
    int exponent = code >> 3;
    int mantissa = code & 7;
    int bits = (exponent + 120) << 7 | mantissa << 4;
    if (exponent == 0) {  // mantissa * 2^-9
      exponent = 121;
      while (mantissa != 0 && mantissa < 8) {
        mantissa <<= 1;
        --exponent;
      }
      bits = mantissa == 0 ? 0 : exponent << 7 | (mantissa & 7) << 4;
    }
    if (code == 127) bits = 0x7fc0;
    bytes.low[code] = static_cast<uint8_t>(bits & 255);
    bytes.high[code] = static_cast<uint8_t>(bits >> 8);
  }
  return bytes;
}
constexpr E4m3Bytes kE4m3Bytes = make_e4m3_bytes();

struct E4m3Code {
  static constexpr int kLow = 8;
  static constexpr int kHigh = 0;
  struct Word {
    __m512i low;  // bytes of the four bf16
    __m512i high;
  };
  __m512i tables[4];

  explicit E4m3Code(const QuantPanel&) {
    for (int i = 0; i < 2; ++i) {
      tables[i] = _mm512_loadu_si512(kE4m3Bytes.low + 64 * i);
      tables[2 + i] = _mm512_loadu_si512(kE4m3Bytes.high + 64 * i);
    }
  }
  __attribute__((always_inline)) Word word(__m512i codes, __m512i) const {
    const __m512i high = _mm512_permutex2var_epi8(tables[2], codes, tables[3]);
    const __m512i signs = _mm512_set1_epi32(static_cast<int>(0x80808080u));
    return {_mm512_permutex2var_epi8(tables[0], codes, tables[1]),
            _mm512_ternarylogic_epi32(high, codes, signs, 0xf8)};  // high | (codes & signs)
  }
  __attribute__((always_inline)) __m512i pair(const Word& word, int p, int) const {
    const __m512i bytes = all_halves(0x00ff);
    if (p == 0) return select_bits(bytes, word.low, halves_shifted(word.high, -8));
    return select_bits(bytes, halves_shifted(word.low, 8), word.high);
  }
};
