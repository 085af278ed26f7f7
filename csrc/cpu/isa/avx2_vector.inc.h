// The 8-lane vector class of AVX2, FMA and F16C, included inside an unnamed namespace.

struct V {
  using Float = __m256;
  using Index = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kPanelVectors = 2;     // rows of a panel
  static constexpr bool kHasFusedFma = true;  // fma() rounds once

  static __m256i mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Float load(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
  static Float load_part(const void* p, int n) {
    return _mm256_maskload_ps(static_cast<const float*>(p), mask(n));
  }
  static void store(float* p, Float v) { _mm256_storeu_ps(p, v); }
  static void store_part(float* p, Float v, int n) { _mm256_maskstore_ps(p, mask(n), v); }
  static Float set(float f) { return _mm256_set1_ps(f); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float abs(Float v) {
    return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
  }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float product_error(Float a, Float b, Float p) { return _mm256_fmsub_ps(a, b, p); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float shift_exponent(Float t) {
    const __m256i bits = _mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23));
  }
  static Float where_negative(Float v, Float a, Float b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ));
  }
  static Float widen_f16(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  // table[index % 16] of each lane.
  static Float lookup16(const float* table, __m256i index) {
    const Float low = _mm256_permutevar8x32_ps(load(table), index);
    const Float high = _mm256_permutevar8x32_ps(load(table + 8), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  }
  static float f16_to_f32(uint16_t h) { return _cvtsh_ss(h); }
  static uint16_t f32_to_f16(float f) { return _cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT); }
};
