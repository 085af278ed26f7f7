// Portable kernels: the compiler's generic vectors of 8 f32, no instruction beyond the target's baseline.
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/f16_scalar.inc.h"

typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));

struct V {
  using Float = Float8;
  static constexpr int kLanes = 8;

  static Float load(const void* p) {
    Float v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static Float load_part(const void* p, int n) {
    Float v = {};
    __builtin_memcpy(&v, p, static_cast<size_t>(n) * sizeof(float));
    return v;
  }
  static void store(float* p, Float v) { __builtin_memcpy(p, &v, sizeof v); }
  static void store_part(float* p, Float v, int n) {
    __builtin_memcpy(p, &v, static_cast<size_t>(n) * sizeof(float));
  }
  static Float set(float f) { return Float{f, f, f, f, f, f, f, f}; }
  static Float add(Float a, Float b) { return a + b; }
  static Float sub(Float a, Float b) { return a - b; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float div(Float a, Float b) { return a / b; }
  static Float abs(Float v) { return (Float)((Int8)v & 0x7fffffff); }
  static Float fma(Float a, Float b, Float c) { return a * b + c; }
  static Float min(Float a, Float b) { return a < b ? a : b; }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  static Float shift_exponent(Float t) { return (Float)(((Int8)t + 127) << 23); }
  static Float where_negative(Float v, Float a, Float b) { return v < set(0.0f) ? a : b; }
  static float f16_to_f32(uint16_t h) { return f16_to_f32_scalar(h); }
  static uint16_t f32_to_f16(float f) { return f32_to_f16_scalar(f); }
};

#include "cpu/isa/elementwise.inc.h"

template <int kDtype>
struct DotTraits {
  using Acc = Float8;
  using X = Float8;
  using W = Float8;
  static constexpr int kStep = 8;
  static constexpr int kXBytes = 4;
  static constexpr int kWBytes = kDtype == SE_F32 ? 4 : 2;
  static constexpr int kMaxRows = 2;
  static constexpr int kMaxCols = 2;

  static Acc zero() { return V::set(0.0f); }
  static X load_x(const char* p) { return V::load(p); }
  static X load_x_part(const char* p, int n) { return V::load_part(p, n); }
  static W load_w(const char* p) { return load_w_part(p, kStep); }
  static W load_w_part(const char* p, int n) {
    if constexpr (kDtype == SE_F32) {
      return V::load_part(p, n);
    } else {
      uint16_t bits[kStep] = {};
      __builtin_memcpy(bits, p, static_cast<size_t>(n) * sizeof bits[0]);
      Float8 w;
      for (int i = 0; i < kStep; ++i)
        w[i] = kDtype == SE_BF16 ? bf16_to_f32(bits[i]) : f16_to_f32_scalar(bits[i]);
      return w;
    }
  }
  static Acc multiply_add(Acc acc, X x, W w) { return acc + x * w; }
  static float reduce(Acc v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
  }
};

#include "cpu/isa/matmul_tile.inc.h"

}  // namespace

const IsaKernels kScalarKernels = {
    "scalar",
    {matmul<DotTraits<SE_F32>>, matmul<DotTraits<SE_F16>>, matmul<DotTraits<SE_BF16>>},
    nullptr,
    activate,
    axpy,
    scale,
    widen,
    narrow,
};

}  // namespace sparse_experts::cpu
