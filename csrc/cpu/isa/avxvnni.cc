// AVX2 with AVX-VNNI: rows of codes by quantised weights. As in avx512vnni.cc, on vectors of half the
// length, for processors without AVX-512.
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx2_vector.inc.h"

// Behind the vector class, which they name.
#include "cpu/isa/panel_matmul.inc.h"
#include "cpu/isa/quant_scales.inc.h"

// Behind both.
#include "cpu/isa/quant_decode.inc.h"

// Twelve accumulators, two vectors of weights and one of x are 15 of the 16 registers.
constexpr int kMostCodedRows = 6;

// Signed weights are multiplied as unsigned ones, 128 larger.
template <int kMost, bool kIsSigned>
struct Dot {
  using Bytes = __m256i;
  using Acc = __m256i;
  using X = __m256i;
  using Table = __m256i;
  static constexpr int32_t kBias = kIsSigned ? 128 : 0;

  static Bytes bytes(Word word) {
    if constexpr (kIsSigned) word ^= 0x80808080u;
    return (__m256i)word;
  }
  static Acc begin(int32_t start) { return _mm256_set1_epi32(start); }
  static X broadcast(const int8_t* p) { return _mm256_set1_epi32(load_quad(p)); }
  static Acc add(Acc acc, Bytes w, X x) { return _mm256_dpbusd_avx_epi32(acc, w, x); }
  static __m256 finish(Acc acc, int32_t) { return _mm256_cvtepi32_ps(acc); }
  static Table make_table(const int8_t* integers) {
    const __m128i once = _mm_loadu_si128(reinterpret_cast<const __m128i*>(integers));
    return bytes((Word)_mm256_broadcastsi128_si256(once));
  }
  static Bytes lookup(Table table, Word word) { return _mm256_shuffle_epi8(table, (__m256i)word); }
};

#include "cpu/isa/coded_quads.inc.h"

// Behind the products of half a tile.
#include "cpu/isa/coded_matmul.inc.h"

}  // namespace

const CodedProducts kAvxVnniProducts = kCodedProducts;

}  // namespace sparse_experts::cpu
