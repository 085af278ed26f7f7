// Portable kernels: the compiler's generic vectors of 8 f32, no instruction beyond the target's
// baseline.
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/f16_scalar.inc.h"

typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));

struct V {
  using Float = Float8;
  using Index = Int8;
  static constexpr int kLanes = 8;
  static constexpr int kPanelVectors = 1;      // rows of a panel
  static constexpr bool kHasFusedFma = false;  // fma() rounds twice

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
  static Float product_error(Float a, Float b, Float p) {
    typedef double Double8 __attribute__((vector_size(64)));
    const Double8 exact = __builtin_convertvector(a, Double8) * __builtin_convertvector(b, Double8);
    return __builtin_convertvector(exact - __builtin_convertvector(p, Double8), Float8);
  }
  static Float min(Float a, Float b) { return a < b ? a : b; }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  static Float shift_exponent(Float t) { return (Float)(((Int8)t + 127) << 23); }
  static Float where_negative(Float v, Float a, Float b) { return v < set(0.0f) ? a : b; }
  static Int8 widen16(const void* p) {
    typedef uint16_t Short8 __attribute__((vector_size(16)));
    Short8 halves;
    __builtin_memcpy(&halves, p, sizeof halves);
    return __builtin_convertvector(halves, Int8);
  }
  static Float widen_bf16(const void* p) { return (Float)(widen16(p) << 16); }
  // Shifted into an f32 the exponent is 112 too small, which a product by 2^112 makes good,
  // subnormals included; exponent 31 then needs all ones.
  static Float widen_f16(const void* p) {
    const Int8 wide = widen16(p);
    const Int8 magnitude = (wide & 0x7fff) << 13;
    const Int8 scaled = (Int8)((Float)magnitude * set(5.192296858534828e33f));
    const Int8 full = (magnitude >= (0x7c00 << 13)) & 0x7f800000;
    return (Float)(scaled | full | ((wide & 0x8000) << 16));
  }
  // table[index % 16] of each lane.
  static Float lookup16(const float* table, Int8 index) {
    Float v;
    for (int i = 0; i < kLanes; ++i) v[i] = table[index[i] & 15];
    return v;
  }
  static float f16_to_f32(uint16_t h) { return f16_to_f32_scalar(h); }
  static uint16_t f32_to_f16(float f) { return f32_to_f16_scalar(f); }
};

#include "cpu/isa/elementwise.inc.h"
#include "cpu/isa/encode.inc.h"

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
  static W load_w(const char* p) {
    if constexpr (kDtype == SE_F32) return V::load(p);
    return load_w_part(p, kStep);
  }
  static W load_w_part(const char* p, int n) {
    if constexpr (kDtype == SE_F32) {
      return V::load_part(p, n);
    } else {
      uint16_t bits[kStep] = {};
      __builtin_memcpy(bits, p, static_cast<size_t>(n) * sizeof bits[0]);
      return kDtype == SE_F16 ? V::widen_f16(bits) : V::widen_bf16(bits);
    }
  }
  static Acc multiply_add(Acc acc, X x, W w) { return acc + x * w; }
  static float reduce(Acc v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
  }
};

#include "cpu/isa/matmul_tile.inc.h"

template <int kDtype>
struct PanelTraits : DotTraits<kDtype> {
  static constexpr int kVectors = V::kPanelVectors;
  static constexpr int kStep = kDtype == SE_BF16 ? 2 : 1;
  static constexpr int kPhases = kStep;
  static constexpr int kVectorBytes = kDtype == SE_F16 ? 16 : 32;
  static constexpr int kMaxRows = 4;
  static constexpr int64_t kPiece = kSlab;

  static Float8 broadcast(const char* p) {
    float x;
    __builtin_memcpy(&x, p, sizeof x);
    return V::set(x);
  }
  static Float8 broadcast_last(const char* p) { return broadcast(p); }
  static Float8 load_w(const char* p, int phase) {
    if constexpr (kDtype == SE_F32) return V::load(p);
    if constexpr (kDtype == SE_F16) return DotTraits<kDtype>::load_w(p);
    Int8 pairs;
    __builtin_memcpy(&pairs, p, sizeof pairs);
    return (Float8)(phase == 0 ? pairs << 16 : pairs & -65536);
  }
};

#include "cpu/isa/panel_matmul.inc.h"
#include "cpu/isa/quant_matmul.inc.h"

constexpr int kMostCodedRows = 4;

template <int kMost, bool kIsSigned>
struct Dot {
  using Bytes = Int8;
  using Acc = Int8;
  using X = Int8;
  struct Table {
    int8_t integers[16];
  };
  static constexpr int32_t kBias = 0;

  static Bytes bytes(Word word) { return (Int8)word; }
  static Acc begin(int32_t start) { return Int8{} + start; }
  static X broadcast(const int8_t* p) { return Int8{} + load_quad(p); }
  static Acc add(Acc acc, Bytes w, X x) {
    for (int left = 24; left >= 0; left -= 8) acc += ((w << left) >> 24) * ((x << left) >> 24);
    return acc;
  }
  static Float8 finish(Acc acc, int32_t) { return __builtin_convertvector(acc, Float8); }
  static Table make_table(const int8_t* integers) {
    Table table;
    __builtin_memcpy(table.integers, integers, sizeof table.integers);
    return table;
  }
  static Bytes lookup(const Table& table, Word word) {
    uint8_t bytes[sizeof word];
    __builtin_memcpy(bytes, &word, sizeof word);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(table.integers[byte]);
    Int8 out;
    __builtin_memcpy(&out, bytes, sizeof out);
    return out;
  }
};

#include "cpu/isa/coded_quads.inc.h"

// Behind the products of half a tile.
#include "cpu/isa/coded_matmul.inc.h"

// Last, because it names all that stands above.
#include "cpu/isa/isa_table.inc.h"

// A constant: no code of this file runs before the set has been chosen.
constexpr IsaKernels kTable = make_table("scalar", &kCodedProducts);

}  // namespace

const IsaKernels kScalarKernels = kTable;

}  // namespace sparse_experts::cpu
