// AVX2 + FMA + F16C: 8 lanes, blocks of 3 x 4 rows or of 6 rows x 2 vectors (12 accumulators of the
// 16 registers).
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx2_vector.inc.h"

// Behind the vector class, which they name.
#include "cpu/isa/elementwise.inc.h"
#include "cpu/isa/encode.inc.h"

template <int kDtype>
struct DotTraits {
  using Acc = __m256;
  using X = __m256;
  using W = __m256;
  static constexpr int kStep = 8;
  static constexpr int kXBytes = 4;
  static constexpr int kWBytes = kDtype == SE_F32 ? 4 : 2;
  static constexpr int kMaxRows = 3;
  static constexpr int kMaxCols = 4;

  static Acc zero() { return _mm256_setzero_ps(); }
  static X load_x(const char* p) { return V::load(p); }
  static X load_x_part(const char* p, int n) { return V::load_part(p, n); }
  static W widen16(__m128i bits) {
    if constexpr (kDtype == SE_F16) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static W load_w(const char* p) {
    if constexpr (kDtype == SE_F32) return V::load(p);
    return widen16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static W load_w_part(const char* p, int n) {
    if constexpr (kDtype == SE_F32) return V::load_part(p, n);
    __m128i bits = _mm_setzero_si128();
    __builtin_memcpy(&bits, p, static_cast<size_t>(n) * 2);
    return widen16(bits);
  }
  static Acc multiply_add(Acc acc, X x, W w) { return _mm256_fmadd_ps(x, w, acc); }
  static float reduce(Acc v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
  }
};

#include "cpu/isa/matmul_tile.inc.h"

template <int kDtype>
struct PanelTraits {
  using Acc = __m256;
  using X = __m256;
  using W = __m256;
  static constexpr int kVectors = V::kPanelVectors;
  static constexpr int kStep = kDtype == SE_BF16 ? 2 : 1;
  static constexpr int kPhases = kStep;
  static constexpr int kXBytes = 4;
  static constexpr int kVectorBytes = kDtype == SE_F16 ? 16 : 32;
  static constexpr int kMaxRows = 6;
  static constexpr int64_t kPiece = kSlab;

  static X broadcast(const char* p) {
    return _mm256_broadcast_ss(reinterpret_cast<const float*>(p));
  }
  static X broadcast_last(const char* p) { return broadcast(p); }
  static W load_w(const char* p, int phase) {
    if constexpr (kDtype == SE_F32) return V::load(p);
    if constexpr (kDtype == SE_F16) return V::widen_f16(p);
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    if (phase == 0) return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
  }
  // Assembly, for 12 accumulators, a row of weights, a mask and a broadcast are all 16 registers:
  // left to itself the compiler picks forms that overwrite a factor, and then copies and spills.
  static Acc multiply_add(Acc acc, X x, W w) {
    asm("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
    return acc;
  }
};

#include "cpu/isa/panel_matmul.inc.h"
#include "cpu/isa/quant_matmul.inc.h"

constexpr int kMostCodedRows = 4;

// VPMADDUBSW adds two products in 16 bits, and saturates. Weights up to kMost stay in 16 bits over a
// whole unit, others are widened after each step. Of signed ones the magnitudes are multiplied, and the
// signs go to x: 2 * 128 * 127 is in range.
template <int kMost, bool kIsSigned>
struct Dot {
  static constexpr bool kIsShort = !kIsSigned && fits_16_bits(kMost);
  struct Bytes {
    __m256i magnitude;
    __m256i sign;
  };
  using Acc = __m256i;
  using X = __m256i;
  using Table = __m256i;
  static constexpr int32_t kBias = 0;

  static Bytes bytes(Word word) {
    if constexpr (kIsSigned) return {_mm256_abs_epi8((__m256i)word), (__m256i)word};
    return {(__m256i)word, (__m256i)word};
  }
  static Acc begin(int32_t) { return _mm256_setzero_si256(); }
  static X broadcast(const int8_t* p) { return _mm256_set1_epi32(load_quad(p)); }
  static __m256i widened(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
  static Acc add(Acc acc, const Bytes& w, X x) {
    if constexpr (kIsSigned) x = _mm256_sign_epi8(x, w.sign);
    const __m256i pairs = _mm256_maddubs_epi16(w.magnitude, x);
    if constexpr (kIsShort) return _mm256_add_epi16(acc, pairs);
    return _mm256_add_epi32(acc, widened(pairs));
  }
  static __m256 finish(Acc acc, int32_t start) {
    if constexpr (kIsShort) acc = widened(acc);
    return _mm256_cvtepi32_ps(_mm256_add_epi32(acc, _mm256_set1_epi32(start)));
  }
  static Table make_table(const int8_t* integers) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(integers)));
  }
  static Bytes lookup(Table table, Word word) {
    return bytes((Word)_mm256_shuffle_epi8(table, (__m256i)word));
  }
};

#include "cpu/isa/coded_quads.inc.h"

// Behind the products of half a tile.
#include "cpu/isa/coded_matmul.inc.h"

// Last, because it names all that stands above.
#include "cpu/isa/isa_table.inc.h"

// Constants: no code of this file runs before the set has been chosen.
constexpr IsaKernels kTable = make_table("avx2", &kCodedProducts);
constexpr IsaKernels kVnniTable = make_table("avxvnni", &kAvxVnniProducts);

}  // namespace

const IsaKernels kAvx2Kernels = kTable;
const IsaKernels kAvxVnniKernels = kVnniTable;

}  // namespace sparse_experts::cpu
