// AVX-512 with VDPBF16PS: bf16 weights times activations that were rounded to bf16 once, 32
// products per instruction. Each lane adds the two products of a pair to its f32 accumulator;
// subnormal operands count as zero.
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx512_vector.inc.h"

// Behind the vector class, which it names.
#include "cpu/isa/avx512_kernels.inc.h"

struct Bf16Traits : DotTraits<SE_BF16> {
  using X = __m512i;
  using W = __m512i;
  static constexpr int kStep = 32;
  static constexpr int kXBytes = 2;

  static X load_x(const char* p) { return _mm512_loadu_si512(p); }
  static X load_x_part(const char* p, int n) {
    return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((1u << n) - 1u), p);
  }
  static W load_w(const char* p) { return load_x(p); }
  static W load_w_part(const char* p, int n) { return load_x_part(p, n); }
  static Acc multiply_add(Acc acc, X x, W w) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
  }
};

// A step is a pair of bf16: one instruction, and half as many steps.
struct Bf16PanelTraits : PanelTraits<SE_BF16> {
  using X = __m512i;
  using W = __m512i;
  static constexpr int kPhases = 1;
  static constexpr int kXBytes = 2;

  static X broadcast(const char* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static X broadcast_last(const char* p) {
    uint16_t first;
    __builtin_memcpy(&first, p, sizeof first);
    return _mm512_set1_epi32(first);
  }
  static W load_w(const char* p, int) { return _mm512_loadu_si512(p); }
  static Acc multiply_add(Acc acc, X x, W w) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
  }
};

// Last, because it names all that stands above.
#include "cpu/isa/isa_table.inc.h"

// Constants: no code of this file runs before the set has been chosen.
constexpr IsaKernels kTable = make_table("avx512bf16", &kAvx512VnniProducts,
                                         {matmul<Bf16Traits>, panel_matmul<Bf16PanelTraits>, {}});
constexpr IsaKernels kVbmiTable =
    make_table("avx512bf16", &kAvx512VnniProducts,
               {matmul<Bf16Traits>,
                panel_matmul<Bf16PanelTraits>,
                {bf16_u2_matmul, bf16_u3_matmul, bf16_u4_matmul, bf16_u5_matmul, bf16_u6_matmul,
                 bf16_i8_matmul, bf16_e4m3_matmul}});

}  // namespace

const IsaKernels kAvx512Bf16Kernels = kTable;
const IsaKernels kAvx512Bf16VbmiKernels = kVbmiTable;

}  // namespace sparse_experts::cpu
