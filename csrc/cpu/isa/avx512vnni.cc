// AVX-512 with VNNI: rows of codes by quantised weights. An instruction adds the products of four bytes
// of weights, unsigned, by four of x.
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx512_vector.inc.h"

// Behind the vector class, which they name.
#include "cpu/isa/panel_matmul.inc.h"
#include "cpu/isa/quant_scales.inc.h"

// Behind both.
#include "cpu/isa/quant_decode.inc.h"

constexpr int kMostCodedRows = 8;

// Signed weights are multiplied as unsigned ones, 128 larger.
template <int kMost, bool kIsSigned>
struct Dot {
  using Bytes = __m512i;
  using Acc = __m512i;
  using X = __m512i;
  using Table = __m512i;
  static constexpr int32_t kBias = kIsSigned ? 128 : 0;

  static Bytes bytes(Word word) {
    if constexpr (kIsSigned) word ^= 0x80808080u;
    return (__m512i)word;
  }
  static Acc begin(int32_t start) { return _mm512_set1_epi32(start); }
  static X broadcast(const int8_t* p) { return _mm512_set1_epi32(load_quad(p)); }
  static Acc add(Acc acc, Bytes w, X x) { return _mm512_dpbusd_epi32(acc, w, x); }
  static __m512 finish(Acc acc, int32_t) { return _mm512_cvtepi32_ps(acc); }
  static Table make_table(const int8_t* integers) { return bytes((Word)repeated16(integers)); }
  static Bytes lookup(Table table, Word word) { return _mm512_shuffle_epi8(table, (__m512i)word); }
};

#include "cpu/isa/coded_quads.inc.h"

// Behind the products of half a tile.
#include "cpu/isa/coded_matmul.inc.h"

}  // namespace

const CodedProducts kAvx512VnniProducts = kCodedProducts;

}  // namespace sparse_experts::cpu
