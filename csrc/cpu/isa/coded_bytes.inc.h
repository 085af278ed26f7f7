// Quantised weights as bytes that are multiplied by bytes of x, over the instruction set's Dot: included by
// coded_quads.inc.h and coded_pairs.inc.h.
//
// Dot<kMost, kIsSigned> multiplies bytes of weights by those of x: four columns of each row of the
// panel's vector by the same four of one row of x. Bytes of weights are numbers from 0 to kMost, or
// signed. It has
//   Bytes, bytes(word): weights as the instruction wants them; kBias: how much is added to each
//   Acc, begin(start), add(acc, bytes, x), finish(acc, start): start + the sum, as f32
//   X, broadcast(p): four bytes of x in every lane
// and Table, make_table(integers), lookup(table, word): 16 signed bytes by bytes of 0 to 15.

// Weights of a code as bytes.
template <int kCode, bool kIsTable>
struct WeightBytes {
  static constexpr int kLow = low_bits(kCode);
  static constexpr int kHigh = high_bits(kCode);
  static constexpr int kQuads = 8 / kLow;  // of a word
  static constexpr int kWords = kLow / 2;  // of half a tile
  static constexpr bool kIsSigned = kIsTable || kCode == SE_CODE_I8;
  using D = Dot<(1 << (kLow + kHigh)) - 1, kIsSigned>;
  typename D::Table table;

  explicit WeightBytes(const QuantPanel& quant) : table() {
    if constexpr (kIsTable) table = D::make_table(quant.integers);
  }

  // The words of the plane that have the high bits of half `half`.
  static const char* plane(const char* tile, int64_t half) {
    return tile + (kHigh == 2 ? half * kWidth * 4 : 0);
  }
  // Quad `quad` of a half's word number `w`.
  __attribute__((always_inline)) typename D::Bytes quad(Word word, Word plane, int64_t half, int w,
                                                        int quad) const {
    if constexpr (kLow == 8) return D::bytes(word);
    constexpr uint32_t kEach = 0x01010101u;
    Word bytes = (word >> (quad * kLow)) & (((1u << kLow) - 1u) * kEach);
    if constexpr (kHigh > 0) {
      // Columns 0 and 1 of a quad have their field here, the other two kApart bits further up.
      constexpr int kApart = kHigh * kQuads;
      constexpr uint32_t kField = ((1u << kHigh) - 1u) << kLow;
      const int at =
          kHigh * (2 * kQuads * w + quad) + (kHigh == 1 ? static_cast<int>(half) * 8 : 0);
      const Word field = plane >> at;
      bytes |= (field << kLow) & (kField | kField << 16);
      bytes |= (field << (8 + kLow - kApart)) & ((kField | kField << 16) << 8);
    }
    if constexpr (kIsTable) return D::lookup(table, bytes);
    return D::bytes(bytes);
  }
};
