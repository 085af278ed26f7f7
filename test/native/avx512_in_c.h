// The AVX-512 instructions that the CPU kernels use, in C++ over the compiler's vectors, after
// Intel's descriptions: forced into csrc/cpu/isa/avx512*.cc (CMake: SE_AVX512_IN_C), it lets every
// processor with AVX2 run the tests of those files. Slow; says nothing about speed.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace avx512_in_c {

typedef float F16 __attribute__((vector_size(64)));
typedef int32_t I16 __attribute__((vector_size(64)));
typedef int16_t H32 __attribute__((vector_size(64)));
typedef uint8_t B64 __attribute__((vector_size(64)));
typedef int8_t S64 __attribute__((vector_size(64)));

template <class To, class From>
static inline To as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same bits");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

static inline bool bit(uint64_t mask, int i) { return (mask >> i & 1) != 0; }

static inline __m512 loadu_ps(const void* p) {
  F16 v;
  memcpy(&v, p, sizeof v);
  return as<__m512>(v);
}
static inline __m512 maskz_loadu_ps(__mmask16 k, const void* p) {
  F16 v = {};
  for (int i = 0; i < 16; ++i)
    if (bit(k, i))
      memcpy(reinterpret_cast<char*>(&v) + 4 * i, static_cast<const char*>(p) + 4 * i, 4);
  return as<__m512>(v);
}
static inline void storeu_ps(void* p, __m512 v) { memcpy(p, &v, sizeof v); }
static inline void mask_storeu_ps(void* p, __mmask16 k, __m512 v) {
  for (int i = 0; i < 16; ++i)
    if (bit(k, i)) memcpy(static_cast<char*>(p) + 4 * i, reinterpret_cast<char*>(&v) + 4 * i, 4);
}
static inline __m512i loadu_si512(const void* p) {
  __m512i v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline __m512i maskz_loadu_epi16(__mmask32 k, const void* p) {
  H32 v = {};
  for (int i = 0; i < 32; ++i)
    if (bit(k, i))
      memcpy(reinterpret_cast<char*>(&v) + 2 * i, static_cast<const char*>(p) + 2 * i, 2);
  return as<__m512i>(v);
}
static inline __m256i maskz_loadu_epi16_256(__mmask16 k, const void* p) {
  int16_t v[16] = {};
  for (int i = 0; i < 16; ++i)
    if (bit(k, i)) memcpy(v + i, static_cast<const char*>(p) + 2 * i, 2);
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(v));
}
static inline __m512 set1_ps(float f) { return as<__m512>(F16{} + f); }
static inline __m512 setzero_ps() { return as<__m512>(F16{}); }
static inline __m512i set1_epi32(int32_t i) { return as<__m512i>(I16{} + i); }
static inline __m512 add_ps(__m512 a, __m512 b) { return as<__m512>(as<F16>(a) + as<F16>(b)); }
static inline __m512 sub_ps(__m512 a, __m512 b) { return as<__m512>(as<F16>(a) - as<F16>(b)); }
static inline __m512 mul_ps(__m512 a, __m512 b) { return as<__m512>(as<F16>(a) * as<F16>(b)); }
static inline __m512 div_ps(__m512 a, __m512 b) { return as<__m512>(as<F16>(a) / as<F16>(b)); }
// The second operand when either is NaN, as the instructions do.
static inline __m512 min_ps(__m512 a, __m512 b) {
  const F16 x = as<F16>(a), y = as<F16>(b);
  return as<__m512>(x < y ? x : y);
}
static inline __m512 max_ps(__m512 a, __m512 b) {
  const F16 x = as<F16>(a), y = as<F16>(b);
  return as<__m512>(x > y ? x : y);
}
static inline __m512 abs_ps(__m512 v) { return as<__m512>(as<I16>(v) & 0x7fffffff); }
static inline __m512 fmadd_ps(__m512 a, __m512 b, __m512 c) {
  F16 x = as<F16>(a), y = as<F16>(b), z = as<F16>(c);
  for (int i = 0; i < 16; ++i) z[i] = __builtin_fmaf(x[i], y[i], z[i]);
  return as<__m512>(z);
}
static inline __m512 fmsub_ps(__m512 a, __m512 b, __m512 c) {
  return fmadd_ps(a, b, as<__m512>(-as<F16>(c)));
}
static inline __m512 permutexvar_ps(__m512i index, __m512 table) {
  const I16 at = as<I16>(index);
  const F16 from = as<F16>(table);
  F16 v = {};
  for (int i = 0; i < 16; ++i) v[i] = from[at[i] & 15];
  return as<__m512>(v);
}
static inline __m512i permutexvar_epi16(__m512i index, __m512i table) {
  const H32 at = as<H32>(index), from = as<H32>(table);
  H32 v = {};
  for (int i = 0; i < 32; ++i) v[i] = from[at[i] & 31];
  return as<__m512i>(v);
}
static inline __m512i permutex2var_epi16(__m512i table, __m512i index, __m512i second) {
  const H32 at = as<H32>(index), from = as<H32>(table), behind = as<H32>(second);
  H32 v = {};
  for (int i = 0; i < 32; ++i) v[i] = at[i] & 32 ? behind[at[i] & 31] : from[at[i] & 31];
  return as<__m512i>(v);
}
static inline __m512i permutex2var_epi8(__m512i table, __m512i index, __m512i second) {
  const B64 at = as<B64>(index), from = as<B64>(table), behind = as<B64>(second);
  B64 v = {};
  for (int i = 0; i < 64; ++i) v[i] = at[i] & 64 ? behind[at[i] & 63] : from[at[i] & 63];
  return as<__m512i>(v);
}
static inline __m512i maskz_permutex2var_epi8(__mmask64 k, __m512i table, __m512i index,
                                              __m512i second) {
  B64 v = as<B64>(permutex2var_epi8(table, index, second));
  for (int i = 0; i < 64; ++i)
    if (!bit(k, i)) v[i] = 0;
  return as<__m512i>(v);
}
static inline __m512i abs_epi8(__m512i v) {
  B64 bytes = as<B64>(v);
  for (int i = 0; i < 64; ++i)
    if (bytes[i] > 128) bytes[i] = static_cast<uint8_t>(256 - bytes[i]);
  return as<__m512i>(bytes);
}
static inline __mmask64 test_epi8_mask(__m512i a, __m512i b) {
  const B64 x = as<B64>(a), y = as<B64>(b);
  __mmask64 k = 0;
  for (int i = 0; i < 64; ++i)
    if ((x[i] & y[i]) != 0) k |= __mmask64{1} << i;
  return k;
}
// Each bit is the bit of `truth` that the three bits of a, b and c number.
static inline __m512i ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int truth) {
  const I16 x = as<I16>(a), y = as<I16>(b), z = as<I16>(c);
  I16 v = {};
  for (int number = 0; number < 8; ++number) {
    if ((truth >> number & 1) == 0) continue;
    v |= (number & 4 ? x : ~x) & (number & 2 ? y : ~y) & (number & 1 ? z : ~z);
  }
  return as<__m512i>(v);
}
static inline __m512 cvtepi32_ps(__m512i a) {
  return as<__m512>(__builtin_convertvector(as<I16>(a), F16));
}
// Two quarters of a, then two of b, by the pairs of bits of `quarters`.
static inline __m512 shuffle_f32x4(__m512 a, __m512 b, int quarters) {
  const F16 x = as<F16>(a), y = as<F16>(b);
  F16 v = {};
  for (int i = 0; i < 16; ++i) v[i] = (i < 8 ? x : y)[(quarters >> (i / 4 * 2) & 3) * 4 + i % 4];
  return as<__m512>(v);
}
// The lower or upper two lanes of each quarter, those of a and of b in turn.
static inline __m512 unpack_ps(__m512 a, __m512 b, int first) {
  const F16 x = as<F16>(a), y = as<F16>(b);
  F16 v = {};
  for (int i = 0; i < 16; ++i) v[i] = (i % 2 == 0 ? x : y)[i / 4 * 4 + first + i % 4 / 2];
  return as<__m512>(v);
}
template <class... Numbers>
static inline __m512i setr_epi32(Numbers... numbers) {
  return as<__m512i>(I16{numbers...});
}
static inline __m512i add_epi32(__m512i a, __m512i b) {
  return as<__m512i>(as<I16>(a) + as<I16>(b));
}
static inline __m512i and_si512(__m512i a, __m512i b) {
  return as<__m512i>(as<I16>(a) & as<I16>(b));
}
static inline __m512i slli_epi32(__m512i a, unsigned n) { return as<__m512i>(as<I16>(a) << n); }
// Less than, ordered and quiet: the one comparison that is used.
template <int kCompare>
static inline __mmask16 cmp_ps_mask(__m512 a, __m512 b) {
  static_assert(kCompare == _CMP_LT_OQ, "only this comparison is here");
  const F16 x = as<F16>(a), y = as<F16>(b);
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= x[i] < y[i] ? 1u << i : 0u;
  return static_cast<__mmask16>(mask);
}
static inline __m512 mask_blend_ps(__mmask16 k, __m512 a, __m512 b) {
  F16 x = as<F16>(a);
  const F16 y = as<F16>(b);
  for (int i = 0; i < 16; ++i)
    if (bit(k, i)) x[i] = y[i];
  return as<__m512>(x);
}
static inline __m512i cvtepu16_epi32(__m256i v) {
  uint16_t halves[16];
  memcpy(halves, &v, sizeof halves);
  I16 wide;
  for (int i = 0; i < 16; ++i) wide[i] = halves[i];
  return as<__m512i>(wide);
}
static inline __m512 cvtph_ps(__m256i v) {
  __m256 parts[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(v)),
                     _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1))};
  return loadu_ps(parts);
}
static inline __m256 extractf32x8_ps(__m512 v, int half) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(&v) + 8 * half);
}
// Each lane: the second product of its pair of bf16, then the first, added to the accumulator;
// every step rounded, subnormal numbers zero before and after.
static inline float flushed(float f) {
  uint32_t bits = as<uint32_t>(f);
  return (bits & 0x7f800000u) == 0 ? as<float>(bits & 0x80000000u) : f;
}
static inline __m512 dpbf16_ps(__m512 acc, __m512i x, __m512i w) {
  F16 sum = as<F16>(acc);
  const I16 a = as<I16>(x), b = as<I16>(w);
  for (int i = 0; i < 16; ++i) {
    for (int half = 1; half >= 0; --half) {
      const auto widened = [&](uint32_t pair) {
        return flushed(as<float>(half == 1 ? pair & 0xffff0000u : pair << 16));
      };
      const float product =
          widened(static_cast<uint32_t>(a[i])) * widened(static_cast<uint32_t>(b[i]));
      sum[i] = flushed(flushed(sum[i]) + flushed(product));
    }
  }
  return as<__m512>(sum);
}

static inline __m512i setzero_si512() { return as<__m512i>(I16{}); }
static inline __m512i add_epi16(__m512i a, __m512i b) {
  return as<__m512i>(as<H32>(a) + as<H32>(b));
}
static inline __mmask64 movepi8_mask(__m512i v) {
  const S64 x = as<S64>(v);
  uint64_t mask = 0;
  for (int i = 0; i < 64; ++i) mask |= x[i] < 0 ? uint64_t{1} << i : 0;
  return mask;
}
static inline __m512i mask_sub_epi8(__m512i otherwise, __mmask64 k, __m512i a, __m512i b) {
  B64 v = as<B64>(otherwise);
  const B64 x = as<B64>(a), y = as<B64>(b);
  for (int i = 0; i < 64; ++i)
    if (bit(k, i)) v[i] = static_cast<uint8_t>(x[i] - y[i]);
  return as<__m512i>(v);
}
// Bytes of each quarter of the table; 0 where the highest bit of the index is set.
static inline __m512i shuffle_epi8(__m512i table, __m512i index) {
  const B64 from = as<B64>(table), at = as<B64>(index);
  B64 v = {};
  for (int i = 0; i < 64; ++i) v[i] = at[i] & 0x80 ? 0 : from[i / 16 * 16 + (at[i] & 15)];
  return as<__m512i>(v);
}
// Unsigned bytes of a by signed ones of b, two products added and saturated.
static inline __m512i maddubs_epi16(__m512i a, __m512i b) {
  const B64 x = as<B64>(a);
  const S64 y = as<S64>(b);
  H32 v = {};
  for (int i = 0; i < 32; ++i) {
    const int sum = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
    v[i] = static_cast<int16_t>(sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
  }
  return as<__m512i>(v);
}
static inline __m512i madd_epi16(__m512i a, __m512i b) {
  const H32 x = as<H32>(a), y = as<H32>(b);
  I16 v = {};
  for (int i = 0; i < 16; ++i) v[i] = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
  return as<__m512i>(v);
}
static inline __m512i dpbusd_epi32(__m512i acc, __m512i a, __m512i b) {
  I16 sum = as<I16>(acc);
  const B64 x = as<B64>(a);
  const S64 y = as<S64>(b);
  for (int i = 0; i < 64; ++i) sum[i / 4] += x[i] * y[i];
  return as<__m512i>(sum);
}

}  // namespace avx512_in_c

#define _mm512_loadu_ps avx512_in_c::loadu_ps
#define _mm512_maskz_loadu_ps avx512_in_c::maskz_loadu_ps
#define _mm512_storeu_ps avx512_in_c::storeu_ps
#define _mm512_mask_storeu_ps avx512_in_c::mask_storeu_ps
#define _mm512_loadu_si512 avx512_in_c::loadu_si512
#define _mm512_maskz_loadu_epi16 avx512_in_c::maskz_loadu_epi16
#define _mm256_maskz_loadu_epi16 avx512_in_c::maskz_loadu_epi16_256
#define _mm512_set1_ps avx512_in_c::set1_ps
#define _mm512_setzero_ps avx512_in_c::setzero_ps
#define _mm512_set1_epi32 avx512_in_c::set1_epi32
#define _mm512_add_ps avx512_in_c::add_ps
#define _mm512_sub_ps avx512_in_c::sub_ps
#define _mm512_mul_ps avx512_in_c::mul_ps
#define _mm512_div_ps avx512_in_c::div_ps
#define _mm512_min_ps avx512_in_c::min_ps
#define _mm512_max_ps avx512_in_c::max_ps
#define _mm512_abs_ps avx512_in_c::abs_ps
#define _mm512_fmadd_ps avx512_in_c::fmadd_ps
#define _mm512_fmsub_ps avx512_in_c::fmsub_ps
#define _mm512_add_epi32 avx512_in_c::add_epi32
#define _mm512_permutexvar_ps avx512_in_c::permutexvar_ps
#define _mm512_permutexvar_epi16 avx512_in_c::permutexvar_epi16
#define _mm512_permutex2var_epi16 avx512_in_c::permutex2var_epi16
#define _mm512_permutex2var_epi8 avx512_in_c::permutex2var_epi8
#define _mm512_maskz_permutex2var_epi8 avx512_in_c::maskz_permutex2var_epi8
#define _mm512_abs_epi8 avx512_in_c::abs_epi8
#define _mm512_test_epi8_mask avx512_in_c::test_epi8_mask
#undef _mm512_ternarylogic_epi32
#define _mm512_ternarylogic_epi32 avx512_in_c::ternarylogic_epi32
#define _mm512_cvtepi32_ps avx512_in_c::cvtepi32_ps
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4 avx512_in_c::shuffle_f32x4
#define _mm512_unpacklo_ps(a, b) avx512_in_c::unpack_ps(a, b, 0)
#define _mm512_unpackhi_ps(a, b) avx512_in_c::unpack_ps(a, b, 2)
#undef _mm512_setr_epi32
#define _mm512_setr_epi32 avx512_in_c::setr_epi32
#define _mm512_and_si512 avx512_in_c::and_si512
#define _mm512_slli_epi32 avx512_in_c::slli_epi32
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask(a, b, compare) avx512_in_c::cmp_ps_mask<compare>(a, b)
#define _mm512_mask_blend_ps avx512_in_c::mask_blend_ps
#define _mm512_cvtepu16_epi32 avx512_in_c::cvtepu16_epi32
#define _mm512_cvtph_ps avx512_in_c::cvtph_ps
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps avx512_in_c::extractf32x8_ps
#define _mm512_castps_si512 avx512_in_c::as<__m512i>
#define _mm512_castsi512_ps avx512_in_c::as<__m512>
#define _mm512_castps512_ps256(v) avx512_in_c::extractf32x8_ps(v, 0)
#define _mm512_dpbf16_ps(acc, x, w) \
  avx512_in_c::dpbf16_ps(acc, avx512_in_c::as<__m512i>(x), avx512_in_c::as<__m512i>(w))
#define _mm512_add_epi16 avx512_in_c::add_epi16
#define _mm512_movepi8_mask avx512_in_c::movepi8_mask
#define _mm512_mask_sub_epi8 avx512_in_c::mask_sub_epi8
#define _mm512_shuffle_epi8 avx512_in_c::shuffle_epi8
#define _mm512_maddubs_epi16 avx512_in_c::maddubs_epi16
#define _mm512_madd_epi16 avx512_in_c::madd_epi16
#define _mm512_dpbusd_epi32 avx512_in_c::dpbusd_epi32
#define _mm512_setzero_si512 avx512_in_c::setzero_si512
