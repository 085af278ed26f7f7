// What every AVX-512 table has, over the vector class: included behind avx512_vector.inc.h inside an
// unnamed namespace.

#include "cpu/isa/elementwise.inc.h"
#include "cpu/isa/encode.inc.h"

template <int kDtype>
struct DotTraits {
  using Acc = __m512;
  using X = __m512;
  using W = __m512;
  static constexpr int kStep = 16;
  static constexpr int kXBytes = 4;
  static constexpr int kWBytes = kDtype == SE_F32 ? 4 : 2;
  static constexpr int kMaxRows = 4;
  static constexpr int kMaxCols = 6;

  static Acc zero() { return _mm512_setzero_ps(); }
  static X load_x(const char* p) { return V::load(p); }
  static X load_x_part(const char* p, int n) { return V::load_part(p, n); }
  static W widen16(__m256i bits) {
    if constexpr (kDtype == SE_F16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static W load_w(const char* p) {
    if constexpr (kDtype == SE_F32) return V::load(p);
    return widen16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static W load_w_part(const char* p, int n) {
    if constexpr (kDtype == SE_F32) return V::load_part(p, n);
    return widen16(_mm256_maskz_loadu_epi16(V::mask(n), p));
  }
  static Acc multiply_add(Acc acc, X x, W w) { return _mm512_fmadd_ps(x, w, acc); }
  static float reduce(Acc v) {
    const __m256 high = _mm512_extractf32x8_ps(v, 1);
    const __m256 sum8 = _mm256_add_ps(_mm512_castps512_ps256(v), high);
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(sum8), _mm256_extractf128_ps(sum8, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
  }
};

#include "cpu/isa/matmul_tile.inc.h"

// Panels of two vectors; 12 rows leave 24 of the 32 registers to accumulators.
template <int kDtype>
struct PanelTraits {
  using Acc = __m512;
  using X = __m512;
  using W = __m512;
  static constexpr int kVectors = V::kPanelVectors;
  static constexpr int kStep = kDtype == SE_BF16 ? 2 : 1;
  static constexpr int kPhases = kStep;
  static constexpr int kXBytes = 4;
  static constexpr int kVectorBytes = kDtype == SE_F16 ? 32 : 64;
  static constexpr int kMaxRows = 12;
  static constexpr int64_t kPiece = kDtype == SE_F32 ? kSlab / 2 : kSlab;

  static X broadcast(const char* p) { return _mm512_set1_ps(*reinterpret_cast<const float*>(p)); }
  static X broadcast_last(const char* p) { return broadcast(p); }
  static W load_w(const char* p, int phase) {
    if constexpr (kDtype == SE_F32) return V::load(p);
    if constexpr (kDtype == SE_F16) return V::widen_f16(p);
    const __m512i pairs = _mm512_loadu_si512(p);
    if (phase == 0) return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
  }
  static Acc multiply_add(Acc acc, X x, W w) { return _mm512_fmadd_ps(x, w, acc); }
};

#include "cpu/isa/panel_matmul.inc.h"
#include "cpu/isa/quant_matmul.inc.h"
