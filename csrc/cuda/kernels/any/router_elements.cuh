// Router logits: hidden rows times router rows, f32, every output one fixed tree of sums.
//
//   chunk   128 columns, from 0
//   split   the chunks of router_split_columns(hidden_size) columns, added in rising order, from 0
// A row of `partials` is a split; who adds the splits does so in rising order (router_splits.cuh).
// The tree depends on the hidden size and the dtypes alone, so any kernel, any tile and any batch give the
// same bits. Columns behind the hidden size are zeros, which change no sum.
//
// A chunk is summed in one of two ways, by the dtype of the hidden rows:
//   f32, f16   one chain of fmaf in rising order: router_rows.cuh for fewer tokens, router_tile.cuh for many
//   bf16       on tensor cores: sm80/router_mma.cuh
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/num.cuh"
#include "cuda/ops/router.h"

namespace sparse_experts::cuda {

constexpr int kRouterThreads = 128;
constexpr int32_t kRouterChunk = 128;  // columns of one chain
constexpr int32_t kRouterPanel = 512;  // columns of the four chunks that a warp adds at a time

struct RouterShape {
  int64_t expert_tiles;
  int64_t split_columns;  // a multiple of kRouterPanel
  bool hidden_vectors;    // 16-byte loads are aligned
  bool weight_vectors;
  bool logit_vectors;
};

// kCount neighbouring elements of one row, as loaded.
template <typename T, int kCount>
struct Packed {
  static constexpr int kWords = kCount * static_cast<int>(sizeof(T)) / 4;
  uint32_t words[kWords];
};

__device__ __forceinline__ uint32_t raw_bits(float value) { return float_bits(value); }
__device__ __forceinline__ uint32_t raw_bits(F16 value) { return value.bits; }
__device__ __forceinline__ uint32_t raw_bits(Bf16 value) { return value.bits; }

// Elements [column, column + kCount) of a row of `columns`; zeros behind it, or all where there is
// no row.
template <typename T, int kCount>
__device__ __forceinline__ Packed<T, kCount> load_packed(const T* row, bool exists, int64_t column,
                                                         int64_t columns, bool vectors) {
  Packed<T, kCount> packed;
  if (exists && vectors && column + kCount <= columns) {
    if constexpr (sizeof(packed) == 16) {
      const uint4 quad = *reinterpret_cast<const uint4*>(row + column);
      packed.words[0] = quad.x;
      packed.words[1] = quad.y;
      packed.words[2] = quad.z;
      packed.words[3] = quad.w;
    } else {
      static_assert(sizeof(packed) == 8, "8 or 16 bytes");
      const uint2 pair = *reinterpret_cast<const uint2*>(row + column);
      packed.words[0] = pair.x;
      packed.words[1] = pair.y;
    }
    return packed;
  }
#pragma unroll
  for (int word = 0; word < Packed<T, kCount>::kWords; ++word) packed.words[word] = 0;
  if (!exists) return packed;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (column + i < columns) {
      if constexpr (sizeof(T) == 4) {
        packed.words[i] = raw_bits(row[column + i]);
      } else {
        packed.words[i / 2] |= raw_bits(row[column + i]) << (i % 2 * 16);
      }
    }
  }
  return packed;
}

template <typename T, int kCount>
__device__ __forceinline__ float packed_float(const Packed<T, kCount>& packed, int i) {
  if constexpr (sizeof(T) == 4) {
    return bits_float(packed.words[i]);
  } else {
    return to_float(T{static_cast<uint16_t>(packed.words[i / 2] >> (i % 2 * 16) & 0xffffu)});
  }
}

}  // namespace sparse_experts::cuda
