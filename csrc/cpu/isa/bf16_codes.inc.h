// Codes of quantised panels as pairs of bf16, included inside an unnamed namespace. A word of codes
// (cpu/layouts/quant_panels.h) holds the even columns in its low half and the odd ones in its high
// half, so pair p is the fields number p of both halves.
//
// Each class: kLow and kHigh, bits of a field of words and of the plane before them; Word, what is
// made once of a vector of words; word(); pair(word, p), one vector of pairs; OfRows, the class for a
// number of rows of x, which all give the same pairs.

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
  template <int kRows>
  using OfRows = IndexCode;
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

// The bf16 of 128 magnitudes, by their low and high bytes. Each is exact.
struct MagnitudeBytes {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];

  constexpr void set(int magnitude, int bits) {
    low[magnitude] = static_cast<uint8_t>(bits & 255);
    high[magnitude] = static_cast<uint8_t>(bits >> 8);
  }
};

// bf16 of a whole number of up to 8 bits.
constexpr int bf16_of_integer(int number) {
  if (number == 0) return 0;
  int exponent = 127 + 7;
  while (number < 128) {
    number <<= 1;
    --exponent;
  }
  return exponent << 7 | (number & 127);
}

// 1 to 128. Zero and 128 have the same 7 bits, and the low byte of both is 0.
constexpr MagnitudeBytes make_i8_bytes() {
  MagnitudeBytes bytes = {};
  for (int number = 1; number <= 128; ++number) bytes.set(number % 128, bf16_of_integer(number));
  return bytes;
}
constexpr MagnitudeBytes make_e4m3_bytes() {
  MagnitudeBytes bytes = {};
  for (int code = 0; code < 128; ++code) {
    const int exponent = code >> 3;
    const int mantissa = code & 7;
    int bits = (exponent + 120) << 7 | mantissa << 4;
    // mantissa * 2^-9
    if (exponent == 0 && mantissa > 0) bits = bf16_of_integer(mantissa) - (9 << 7);
    if (code == 0) bits = 0;
    if (code == 127) bits = 0x7fc0;
    bytes.set(code, bits);
  }
  return bytes;
}
constexpr MagnitudeBytes kI8Bytes = make_i8_bytes();
constexpr MagnitudeBytes kE4m3Bytes = make_e4m3_bytes();

// Which bytes pair 0 takes from the low bytes of a word's values and, behind 64, from the high ones.
// Those of pair 1 follow.
struct PairOrder {
  alignas(64) uint8_t of_first[64];
};
constexpr PairOrder make_pair_order() {
  PairOrder order = {};
  for (int half = 0; half < 32; ++half) {
    order.of_first[2 * half] = static_cast<uint8_t>(2 * half);
    order.of_first[2 * half + 1] = static_cast<uint8_t>(64 + 2 * half);
  }
  return order;
}
constexpr PairOrder kPairOrder = make_pair_order();

// Codes of 8 bits: a magnitude's two bytes are looked up for the 64 codes of a vector at once, then
// brought together: by one permutation, or by a shift and a selection, which leave the units of
// products alone.
template <bool kPermutes>
struct ByteCode {
  static constexpr int kLow = 8;
  static constexpr int kHigh = 0;
  struct Word {
    __m512i low;  // bytes of the four bf16
    __m512i high;
  };
  __m512i low[2];
  __m512i high[2];
  __m512i order[2];

  explicit ByteCode(const MagnitudeBytes& bytes) {
    for (int i = 0; i < 2; ++i) {
      low[i] = _mm512_loadu_si512(bytes.low + 64 * i);
      high[i] = _mm512_loadu_si512(bytes.high + 64 * i);
    }
    order[0] = _mm512_loadu_si512(kPairOrder.of_first);
    order[1] = (__m512i)((Words)order[0] + 0x01010101u);
  }
  // `high_bytes` without signs; the codes have them.
  __attribute__((always_inline)) Word signed_word(__m512i magnitudes, __m512i high_bytes,
                                                  __m512i codes) const {
    const __m512i signs = _mm512_set1_epi32(static_cast<int>(0x80808080u));
    return {_mm512_permutex2var_epi8(low[0], magnitudes, low[1]),
            _mm512_ternarylogic_epi32(high_bytes, codes, signs, 0xf8)};  // high | (codes & signs)
  }
  __attribute__((always_inline)) __m512i pair(const Word& word, int p, int) const {
    if constexpr (kPermutes) return _mm512_permutex2var_epi8(word.low, order[p], word.high);
    const __m512i bytes = all_halves(0x00ff);
    if (p == 0) return select_bits(bytes, word.low, halves_shifted(word.high, -8));
    return select_bits(bytes, halves_shifted(word.low, 8), word.high);
  }
};

template <bool kPermutes>
struct E4m3Lookup : ByteCode<kPermutes> {
  using Base = ByteCode<kPermutes>;
  explicit E4m3Lookup(const QuantPanel&) : Base(kE4m3Bytes) {}
  __attribute__((always_inline)) typename Base::Word word(__m512i codes, __m512i) const {
    const __m512i high_bytes = _mm512_permutex2var_epi8(this->high[0], codes, this->high[1]);
    return this->signed_word(codes, high_bytes, codes);
  }
};
struct E4m3Code {
  template <int kRows>
  using OfRows = E4m3Lookup<kRows == 1>;
};

// Integers of 8 bits, looked up: the fewest instructions.
template <bool kPermutes>
struct I8Lookup : ByteCode<kPermutes> {
  using Base = ByteCode<kPermutes>;
  explicit I8Lookup(const QuantPanel&) : Base(kI8Bytes) {}
  __attribute__((always_inline)) typename Base::Word word(__m512i codes, __m512i) const {
    const __m512i magnitudes = _mm512_abs_epi8(codes);  // of -128 it is -128, whose 7 bits are 0
    const __mmask64 is_not_zero = _mm512_test_epi8_mask(codes, codes);
    const __m512i high_bytes =
        _mm512_maskz_permutex2var_epi8(is_not_zero, this->high[0], magnitudes, this->high[1]);
    return this->signed_word(magnitudes, high_bytes, codes);
  }
};

// The same, converted: they are the upper half of their f32. More instructions, but shifts and
// conversions have units beside those of products, and lookups share theirs with them.
struct I8Convert {
  static constexpr int kLow = 8;
  static constexpr int kHigh = 0;
  struct Word {
    SignedWords codes;
  };

  explicit I8Convert(const QuantPanel&) {}
  static Word word(__m512i low, __m512i) { return {(SignedWords)low}; }
  __attribute__((always_inline)) __m512i pair(const Word& word, int p, int) const {
    const auto value = [&](int left) __attribute__((always_inline)) {
      const SignedWords number = (SignedWords)((Words)word.codes << left) >> 24;
      return (Words)_mm512_castps_si512(_mm512_cvtepi32_ps((__m512i)number));
    };
    return (__m512i)(value(24 - 8 * p) >> 16 | value(8 - 8 * p));
  }
};

// By which way: 0 permutes, 1 shifts, 2 converts.
template <int kWay>
struct I8Way {
  using Type = I8Lookup<kWay == 0>;
};
template <>
struct I8Way<2> {
  using Type = I8Convert;
};
struct I8Code {
  template <int kRows>
  using OfRows = typename I8Way<kRows == 1   ? 0
                                : kRows <= 4 ? 1
                                             : 2>::Type;
};
