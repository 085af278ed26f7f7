// The 16-lane vector class and f32 dot products of AVX-512 F/BW/VL/DQ, included inside an unnamed
// namespace.

struct V {
  using Float = __m512;
  using Index = __m512i;
  static constexpr int kLanes = 16;

  static __mmask16 mask(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static Float load(const void* p) { return _mm512_loadu_ps(p); }
  static Float load_part(const void* p, int n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static void store(float* p, Float v) { _mm512_storeu_ps(p, v); }
  static void store_part(float* p, Float v, int n) { _mm512_mask_storeu_ps(p, mask(n), v); }
  static Float set(float f) { return _mm512_set1_ps(f); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float abs(Float v) { return _mm512_abs_ps(v); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float product_error(Float a, Float b, Float p) { return _mm512_fmsub_ps(a, b, p); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float shift_exponent(Float t) {
    const __m512i bits = _mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 23));
  }
  static Float where_negative(Float v, Float a, Float b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
  }
  // table[index % 16] of each lane.
  static Float lookup16(const float* table, __m512i index) {
    return _mm512_permutexvar_ps(index, load(table));
  }
  static float f16_to_f32(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
  static uint16_t f32_to_f16(float f) {
    const __m128i h = _mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT);
    return static_cast<uint16_t>(_mm_extract_epi16(h, 0));
  }
};

#include "cpu/isa/elementwise.inc.h"

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
  static constexpr int kVectors = 2;
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
    if constexpr (kDtype == SE_F16)
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    const __m512i pairs = _mm512_loadu_si512(p);
    if (phase == 0) return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
  }
  static Acc multiply_add(Acc acc, X x, W w) { return _mm512_fmadd_ps(x, w, acc); }
};

#include "cpu/isa/panel_matmul.inc.h"
#include "cpu/isa/quant_matmul.inc.h"
