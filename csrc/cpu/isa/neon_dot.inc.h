// The Dot of SDOT (coded_bytes.inc.h): an instruction adds the products of four signed bytes of weights by
// four of x. Included behind neon_vector.inc.h and quant_decode.inc.h inside an unnamed namespace.

template <int kMost, bool kIsSigned>
struct Dot {
  static_assert(kIsSigned || kMost <= 127, "weights are signed bytes");
  using Bytes = int8x16_t;
  using Acc = int32x4_t;
  using X = int8x16_t;
  using Table = int8x16_t;
  static constexpr int32_t kBias = 0;

  static Bytes bytes(Word word) { return (int8x16_t)word; }
  static Acc begin(int32_t start) { return vdupq_n_s32(start); }
  static X broadcast(const int8_t* p) { return vreinterpretq_s8_s32(vdupq_n_s32(load_quad(p))); }
  static Acc add(Acc acc, Bytes w, X x) { return vdotq_s32(acc, w, x); }
  static float32x4_t finish(Acc acc, int32_t) { return vcvtq_f32_s32(acc); }
  static Table make_table(const int8_t* integers) { return vld1q_s8(integers); }
  static Bytes lookup(Table table, Word word) { return vqtbl1q_s8(table, (uint8x16_t)word); }
};
