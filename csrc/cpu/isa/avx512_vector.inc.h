// The 16-lane vector class of AVX-512 F/BW/VL/DQ, included inside an unnamed namespace.

struct V {
  using Float = __m512;
  using Index = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kPanelVectors = 2;     // rows of a panel
  static constexpr bool kHasFusedFma = true;  // fma() rounds once

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
  static Float widen_f16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
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

// 16 bytes in each quarter.
static inline __m512i repeated16(const int8_t* bytes) {
  int32_t words[4];
  __builtin_memcpy(words, bytes, sizeof words);
  return _mm512_setr_epi32(words[0], words[1], words[2], words[3], words[0], words[1], words[2],
                           words[3], words[0], words[1], words[2], words[3], words[0], words[1],
                           words[2], words[3]);
}
