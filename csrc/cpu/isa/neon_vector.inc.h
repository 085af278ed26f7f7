// The 4-lane vector class of AArch64, included inside an unnamed namespace.

#include "cpu/isa/f16_scalar.inc.h"

struct V {
  using Float = float32x4_t;
  using Index = uint32x4_t;
  static constexpr int kLanes = 4;
  static constexpr int kPanelVectors = 4;     // rows of a panel
  static constexpr bool kHasFusedFma = true;  // fma() rounds once

  static Float load(const void* p) { return vld1q_f32(static_cast<const float*>(p)); }
  static Float load_part(const void* p, int n) {
    float lanes[4] = {};
    __builtin_memcpy(lanes, p, static_cast<size_t>(n) * sizeof lanes[0]);
    return vld1q_f32(lanes);
  }
  static void store(float* p, Float v) { vst1q_f32(p, v); }
  static void store_part(float* p, Float v, int n) {
    float lanes[4];
    vst1q_f32(lanes, v);
    __builtin_memcpy(p, lanes, static_cast<size_t>(n) * sizeof lanes[0]);
  }
  static Float set(float f) { return vdupq_n_f32(f); }
  static Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static Float sub(Float a, Float b) { return vsubq_f32(a, b); }
  static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static Float div(Float a, Float b) { return vdivq_f32(a, b); }
  static Float abs(Float v) { return vabsq_f32(v); }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static Float product_error(Float a, Float b, Float p) { return vnegq_f32(vfmsq_f32(p, a, b)); }
  static Float min(Float a, Float b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static Float max(Float a, Float b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static Float shift_exponent(Float t) {
    const int32x4_t bits = vaddq_s32(vreinterpretq_s32_f32(t), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(bits, 23));
  }
  static Float where_negative(Float v, Float a, Float b) {
    return vbslq_f32(vcltq_f32(v, vdupq_n_f32(0.0f)), a, b);
  }
  static Float widen_f16(const void* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(static_cast<const uint16_t*>(p))));
  }
  // table[index % 16] of each lane.
  static Float lookup16(const float* table, uint32x4_t index) {
    // The four bytes of an entry: 4 * index + {0, 1, 2, 3}.
    const uint32x4_t first = vmulq_n_u32(vandq_u32(index, vdupq_n_u32(15)), 0x04040404u);
    const uint8x16_t bytes = vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x03020100u)));
    const uint8_t* from = reinterpret_cast<const uint8_t*>(table);
    const uint8x16x4_t entries = {
        {vld1q_u8(from), vld1q_u8(from + 16), vld1q_u8(from + 32), vld1q_u8(from + 48)}};
    return vreinterpretq_f32_u8(vqtbl4q_u8(entries, bytes));
  }
  static float f16_to_f32(uint16_t h) { return f16_to_f32_scalar(h); }
  static uint16_t f32_to_f16(float f) { return f32_to_f16_scalar(f); }
};
