// AVX-512 F/BW/VL/DQ: 16 lanes, blocks of 4 x 6 rows or of 12 rows x 2 vectors (24 accumulators of
// the 32 registers).
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx512_vector.inc.h"

// Behind the vector class, which it names.
#include "cpu/isa/avx512_kernels.inc.h"

constexpr int kMostCodedRows = 8;

// As in avx2.cc; signs go to x by masks.
template <int kMost, bool kIsSigned>
struct Dot {
  static constexpr bool kIsShort = !kIsSigned && fits_16_bits(kMost);
  struct Bytes {
    __m512i magnitude;
    __mmask64 is_negative;
  };
  using Acc = __m512i;
  using X = __m512i;
  using Table = __m512i;
  static constexpr int32_t kBias = 0;

  static Bytes bytes(Word word) {
    if constexpr (kIsSigned)
      return {_mm512_abs_epi8((__m512i)word), _mm512_movepi8_mask((__m512i)word)};
    return {(__m512i)word, 0};
  }
  static Acc begin(int32_t) { return _mm512_setzero_si512(); }
  static X broadcast(const int8_t* p) { return _mm512_set1_epi32(load_quad(p)); }
  static __m512i widened(__m512i pairs) {
    return _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00010001));
  }
  static Acc add(Acc acc, const Bytes& w, X x) {
    if constexpr (kIsSigned) x = _mm512_mask_sub_epi8(x, w.is_negative, _mm512_setzero_si512(), x);
    const __m512i pairs = _mm512_maddubs_epi16(w.magnitude, x);
    if constexpr (kIsShort) return _mm512_add_epi16(acc, pairs);
    return _mm512_add_epi32(acc, widened(pairs));
  }
  static __m512 finish(Acc acc, int32_t start) {
    if constexpr (kIsShort) acc = widened(acc);
    return _mm512_cvtepi32_ps(_mm512_add_epi32(acc, _mm512_set1_epi32(start)));
  }
  static Table make_table(const int8_t* integers) { return repeated16(integers); }
  static Bytes lookup(Table table, Word word) {
    return bytes((Word)_mm512_shuffle_epi8(table, (__m512i)word));
  }
};

#include "cpu/isa/coded_quads.inc.h"

// Behind the products of half a tile.
#include "cpu/isa/coded_matmul.inc.h"

// Last, because it names all that stands above.
#include "cpu/isa/isa_table.inc.h"

// Constants: no code of this file runs before the set has been chosen.
constexpr IsaKernels kTable = make_table("avx512", &kCodedProducts);
constexpr IsaKernels kVnniTable = make_table("avx512vnni", &kAvx512VnniProducts);

}  // namespace

const IsaKernels kAvx512Kernels = kTable;
const IsaKernels kAvx512VnniKernels = kVnniTable;

}  // namespace sparse_experts::cpu
