// NEON of AArch64: 4 lanes, two registers per accumulator in blocks of 3 x 4 rows, four in blocks
// of 6 rows x 1 panel (24 of the 32 registers both).
#include <arm_neon.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/neon_vector.inc.h"

// Behind the vector class, which they name.
#include "cpu/isa/elementwise.inc.h"
#include "cpu/isa/encode.inc.h"

struct Pair {
  float32x4_t low;
  float32x4_t high;
};

template <int kDtype>
struct DotTraits {
  using Acc = Pair;
  using X = Pair;
  using W = Pair;
  static constexpr int kStep = 8;
  static constexpr int kXBytes = 4;
  static constexpr int kWBytes = kDtype == SE_F32 ? 4 : 2;
  static constexpr int kMaxRows = 3;
  static constexpr int kMaxCols = 4;

  static Acc zero() { return {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}; }
  static Pair load_f32(const void* p) {
    return {V::load(p), V::load(static_cast<const float*>(p) + 4)};
  }
  static X load_x(const char* p) { return load_f32(p); }
  static X load_x_part(const char* p, int n) {
    float lanes[kStep] = {};
    __builtin_memcpy(lanes, p, static_cast<size_t>(n) * sizeof lanes[0]);
    return load_f32(lanes);
  }
  static W widen16(uint16x8_t bits) {
    if constexpr (kDtype == SE_F16) {
      return {vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(bits))),
              vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(bits)))};
    }
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16)),
            vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(bits), 16))};
  }
  static W load_w(const char* p) {
    if constexpr (kDtype == SE_F32) return load_f32(p);
    return widen16(vld1q_u16(reinterpret_cast<const uint16_t*>(p)));
  }
  static W load_w_part(const char* p, int n) {
    if constexpr (kDtype == SE_F32) return load_x_part(p, n);
    uint16_t bits[kStep] = {};
    __builtin_memcpy(bits, p, static_cast<size_t>(n) * sizeof bits[0]);
    return widen16(vld1q_u16(bits));
  }
  static Acc multiply_add(Acc acc, X x, W w) {
    return {vfmaq_f32(acc.low, x.low, w.low), vfmaq_f32(acc.high, x.high, w.high)};
  }
  static float reduce(Acc v) {
    const float32x4_t sum4 = vaddq_f32(v.low, v.high);
    const float32x2_t sum2 = vadd_f32(vget_low_f32(sum4), vget_high_f32(sum4));
    return vget_lane_f32(sum2, 0) + vget_lane_f32(sum2, 1);
  }
};

#include "cpu/isa/matmul_tile.inc.h"

template <int kDtype>
struct PanelTraits {
  using Acc = float32x4_t;
  using X = float32x4_t;
  using W = float32x4_t;
  static constexpr int kVectors = V::kPanelVectors;
  static constexpr int kStep = kDtype == SE_BF16 ? 2 : 1;
  static constexpr int kPhases = kStep;
  static constexpr int kXBytes = 4;
  static constexpr int kVectorBytes = kDtype == SE_F16 ? 8 : 16;
  static constexpr int kMaxRows = 6;
  static constexpr int64_t kPiece = kSlab;

  static X broadcast(const char* p) { return vld1q_dup_f32(reinterpret_cast<const float*>(p)); }
  static X broadcast_last(const char* p) { return broadcast(p); }
  static W load_w(const char* p, int phase) {
    if constexpr (kDtype == SE_F32) return V::load(p);
    if constexpr (kDtype == SE_F16) return V::widen_f16(p);
    const uint32x4_t pairs = vld1q_u32(reinterpret_cast<const uint32_t*>(p));
    if (phase == 0) return vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
    return vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
  }
  static Acc multiply_add(Acc acc, X x, W w) { return vfmaq_f32(acc, x, w); }
};

#include "cpu/isa/panel_matmul.inc.h"
#include "cpu/isa/quant_matmul.inc.h"

constexpr int kMostCodedRows = 2;

// Products in 16 bits; up to kMost they stay there over a whole unit, others are widened, two by two,
// after each step. The lower and the upper two lanes of a vector are summed apart.
template <int kMost, bool kIsSigned>
struct Dot {
  static constexpr bool kIsShort = !kIsSigned && kTile / 4 * kMost * 127 <= 32767;
  using Bytes = int8x16_t;
  struct Acc {
    int16x8_t low, high;
    int32x4_t wide_low, wide_high;
  };
  using X = int8x16_t;
  using Table = int8x16_t;
  static constexpr int32_t kBias = 0;

  static Bytes bytes(Word word) { return (int8x16_t)word; }
  static Acc begin(int32_t) {
    return {vdupq_n_s16(0), vdupq_n_s16(0), vdupq_n_s32(0), vdupq_n_s32(0)};
  }
  static X broadcast(const int8_t* p) { return vreinterpretq_s8_s32(vdupq_n_s32(load_quad(p))); }
  static Acc add(Acc acc, Bytes w, X x) {
    if constexpr (kIsShort) {
      acc.low = vmlal_s8(acc.low, vget_low_s8(w), vget_low_s8(x));
      acc.high = vmlal_high_s8(acc.high, w, x);
    } else {
      acc.wide_low = vpadalq_s16(acc.wide_low, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
      acc.wide_high = vpadalq_s16(acc.wide_high, vmull_high_s8(w, x));
    }
    return acc;
  }
  static float32x4_t finish(const Acc& acc, int32_t start) {
    int32x4_t sum;
    if constexpr (kIsShort) {
      sum = vpaddq_s32(vpaddlq_s16(acc.low), vpaddlq_s16(acc.high));
    } else {
      sum = vpaddq_s32(acc.wide_low, acc.wide_high);
    }
    return vcvtq_f32_s32(vaddq_s32(sum, vdupq_n_s32(start)));
  }
  static Table make_table(const int8_t* integers) { return vld1q_s8(integers); }
  static Bytes lookup(Table table, Word word) { return vqtbl1q_s8(table, (uint8x16_t)word); }
};

#include "cpu/isa/coded_quads.inc.h"

// Behind the products of half a tile.
#include "cpu/isa/coded_matmul.inc.h"

// Last, because it names all that stands above.
#include "cpu/isa/isa_table.inc.h"

// Constants: no code of this file runs before the set has been chosen.
constexpr IsaKernels kTable = make_table("neon", &kCodedProducts);
constexpr IsaKernels kDotProdTable = make_table("neondotprod", &kNeonDotProdProducts);
constexpr IsaKernels kI8mmTable = make_table("neoni8mm", &kNeonI8mmProducts);

}  // namespace

const IsaKernels kNeonKernels = kTable;
const IsaKernels kNeonDotProdKernels = kDotProdTable;
const IsaKernels kNeonI8mmKernels = kI8mmTable;

}  // namespace sparse_experts::cpu
