// Scales and offsets of a chunk (stored_layout.h) as f32.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/num.cuh"
#include "cuda/layouts/stored_layout.h"

namespace sparse_experts::cuda {

__device__ __forceinline__ float f16_at(const unsigned char* numbers, int at) {
  return to_float(F16{reinterpret_cast<const uint16_t*>(numbers)[at]});
}

// 2^(code - 127): code 0 is a subnormal number, 255 is NaN.
__device__ __forceinline__ float e8m0_value(uint32_t code) {
  return bits_float(code == 0 ? 0x00400000u : code == 255 ? 0x7fc00000u : code << 23);
}

__device__ __forceinline__ float e4m3_value(uint32_t code) {
  const uint32_t magnitude = code & 0x7fu;
  if (magnitude == 0x7fu) return bits_float(0x7fc00000u);
  // As an f16 whose exponent is 8 less.
  const uint32_t bits = (code & 0x80u) << 8 | magnitude << 7;
  return to_float(F16{static_cast<uint16_t>(bits)}) * 256.0f;
}

// Number `at` of an array of an SeScale.
__device__ __forceinline__ float scale_value(int32_t type, const unsigned char* numbers, int at) {
  switch (type) {
    case SE_SCALE_F32:
      return reinterpret_cast<const float*>(numbers)[at];
    case SE_SCALE_F16:
      return f16_at(numbers, at);
    case SE_SCALE_BF16:
      return to_float(Bf16{reinterpret_cast<const uint16_t*>(numbers)[at]});
    case SE_SCALE_E8M0:
      return e8m0_value(numbers[at]);
    case SE_SCALE_E4M3:
      return e4m3_value(numbers[at]);
    case SE_SCALE_I8:
      return static_cast<float>(static_cast<int8_t>(numbers[at]));
    default:  // SE_SCALE_U8
      return static_cast<float>(numbers[at]);
  }
}

// How the scales and offsets of a layout are read, in registers: the layout itself lies in shared memory,
// which copies make the compiler read again.
struct ScaleRules {
  int32_t scale;            // SeScale
  int32_t offset;           // SeOffset
  int32_t numbers_a_group;  // scales: of the 8 rows, or 1 for all of them
  int32_t row;              // of the unit: this lane's
  int32_t scale_row;        // among a group's scales
  int32_t group_steps;      // k16 steps that share a scale, a power of two

  static __device__ __forceinline__ ScaleRules of(const StoredLayout& layout) {
    const int row = static_cast<int>(threadIdx.x) / 4 % kUnitRows;
    const bool shared = layout.shares_scales != 0;
    return {layout.scale, layout.offset,    shared ? 1 : kUnitRows,
            row,          shared ? 0 : row, layout.group_cols / 16};
  }
  __device__ __forceinline__ bool has_offsets() const { return offset != SE_OFFSET_NONE; }
};

// The scale of a group of this lane's row, without that of the whole matrix.
__device__ __forceinline__ float group_scale(const ScaleRules& rules, const StoredChunk& places,
                                             const unsigned char* chunk, int group) {
  const float scale = scale_value(rules.scale, chunk + places.scales,
                                  group * rules.numbers_a_group + rules.scale_row);
  const bool is_of_super = rules.scale == SE_SCALE_U8 || rules.scale == SE_SCALE_I8;
  return is_of_super ? scale * f16_at(chunk + places.supers, rules.row) : scale;
}

// What the group has besides: SE_OFFSET_ZERO is taken from values before they are scaled, the others are
// added, signs and all, after.
__device__ __forceinline__ float group_offset(const ScaleRules& rules, const StoredChunk& places,
                                              const unsigned char* chunk, int group) {
  const int at = group * kUnitRows + rules.row;
  const unsigned char* const offsets = chunk + places.offsets;
  if (rules.offset == SE_OFFSET_ZERO) return static_cast<float>(static_cast<int8_t>(offsets[at]));
  if (rules.offset == SE_OFFSET_F16) return f16_at(offsets, at);
  return -static_cast<float>(offsets[at]) * f16_at(chunk + places.second_supers, rules.row);
}

}  // namespace sparse_experts::cuda
