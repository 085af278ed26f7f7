// From accumulators to outputs: bias, activation, slot weight, rounding, stores.
//
//   1. one strip of tokens at a time, the warps write their sums to shared memory as f32, a token's
//      outputs side by side (gate first, then up)
//   2. every thread takes 4 successive outputs of a token, adds the parts of a split K in the order
//      of K, and finishes them; successive threads store successive bytes. The activation that most
//      launches have is known to the compiler in a loop of its own: a quad has no branch on its kind
// The detour makes whole sectors of the stores, and keeps the code of the activations out of the
// unrolled fragments.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/num.cuh"
#include "cuda/kernels/any/activation.cuh"
#include "cuda/kernels/sm80/half_expert_matmul_mma.cuh"

namespace sparse_experts::cuda {

// A token's sums begin 4 floats further than the banks would repeat: the 4 tokens that a fragment's
// lanes hold meet other banks.
constexpr int kSumsPadding = 4;

template <typename Tile, bool kGated>
__device__ __forceinline__ void stage_sums(
    const float (&sums)[Tile::kFragmentsM][Tile::kFragmentsN][4], const WarpPlace& warp, int width,
    int tile_rows, float* staged) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const int stride = tile_rows + kSumsPadding;
  // The second half of a fragment's rows: outputs 8 further, or the up sums of the same outputs.
  const int second = kGated ? tile_rows / 2 : 8;
  float* part = staged + warp.slice * width * 8 * stride;
#pragma unroll
  for (int m = 0; m < Tile::kFragmentsM; ++m) {
    const int column = (warp.m * Tile::kFragmentsM + m) * (kGated ? 8 : 16) + lane / 4;
#pragma unroll
    for (int n = 0; n < Tile::kFragmentsN; ++n) {
      if (n < width) {
        float* token = part + (n * 8 + lane % 4 * 2) * stride + column;
        token[0] = sums[m][n][0];
        token[stride] = sums[m][n][1];
        token[second] = sums[m][n][2];
        token[stride + second] = sums[m][n][3];
      }
    }
  }
}

// 4 outputs; `count` of them lie in the matrix.
template <typename Out>
__device__ __forceinline__ void store_outputs(void* out, int64_t at, const float (&values)[4],
                                              int count, bool aligned) {
  Out* to = static_cast<Out*>(out) + at;
  if (aligned && count >= 4) {
    if constexpr (sizeof(Out) == 4) {
      *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
      const uint32_t low = from_float<Out>(values[0]).bits | from_float<Out>(values[1]).bits << 16;
      const uint32_t high = from_float<Out>(values[2]).bits | from_float<Out>(values[3]).bits << 16;
      *reinterpret_cast<uint2*>(to) = make_uint2(low, high);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < count) to[i] = from_float<Out>(values[i]);
  }
}

// Of a power of two, at compile time.
__host__ __device__ constexpr int log2_of(int value) {
  return value > 1 ? 1 + log2_of(value / 2) : 0;
}

__device__ __forceinline__ void add_bias(const float* bias, int64_t stride, int64_t column,
                                         int count, float (&values)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < count) values[i] += bias[(column + i) * stride];
  }
}

__device__ __forceinline__ void read_sums(const float* staged, int part_stride, int split_k,
                                          float (&values)[4]) {
  const float4 first = *reinterpret_cast<const float4*>(staged);
  values[0] = first.x;
  values[1] = first.y;
  values[2] = first.z;
  values[3] = first.w;
  for (int part = 1; part < split_k; ++part) {
    const float4 more = *reinterpret_cast<const float4*>(staged + part * part_stride);
    values[0] += more.x;
    values[1] += more.y;
    values[2] += more.z;
    values[3] += more.w;
  }
}

// Tokens of a tile as the epilogue sees them, in shared memory.
struct OutputRows {
  const int32_t* rows;   // of `out`
  const float* weights;  // slot weights
};

// The strip's tokens are first_token … first_token + num_tokens - 1 of the tile. kKind: of the activation, or
// kAnyKind.
template <typename Element, typename Tile, bool kGated, int kKind>
__device__ __forceinline__ void finish_quads(const ExpertMatmulKernelArgs& args,
                                             const MatmulGroup& group, const TilePlace& place,
                                             const OutputRows& outputs, int first_token,
                                             int num_tokens, int width, int tile_rows,
                                             int log_split, const float* staged) {
  const int stride = tile_rows + kSumsPadding;
  const int part_stride = width * 8 * stride;
  const int tile_columns = kGated ? tile_rows / 2 : tile_rows;
  constexpr int kLogQuads = log2_of(Tile::kRows / (kGated ? 8 : 4));
  const int log_quads = kLogQuads - log_split;
  const float* up_bias = group.up_bias != nullptr ? group.up_bias[place.expert] : nullptr;
  const float* gate_bias = nullptr;
  if constexpr (kGated) {
    if (group.gate_bias != nullptr) gate_bias = group.gate_bias[place.expert];
  }
  const bool scaled = group.slot_weights != nullptr;
  const bool as_f32 = group.out_dtype == SE_F32;
  const uintptr_t quad_bytes = as_f32 ? 16 : 8;
  const bool aligned = ((reinterpret_cast<uintptr_t>(group.out) |
                         static_cast<uintptr_t>(group.out_stride) * (quad_bytes / 4)) &
                        (quad_bytes - 1)) == 0;
  // A block may have more threads than those that finish outputs.
  const int thread = static_cast<int>(threadIdx.x % static_cast<uint32_t>(Tile::kThreads));
  for (int i = thread; i < num_tokens << log_quads; i += Tile::kThreads) {
    const int token = i >> log_quads;
    const int local = (i - (token << log_quads)) * 4;
    const int64_t column = place.first_column + local;
    const int64_t left = group.rows - column;
    if (left <= 0) continue;
    const int count = left < 4 ? static_cast<int>(left) : 4;
    const float* from = staged + token * stride + local;
    float gate[4] = {};
    float up[4];
    if constexpr (kGated) {
      read_sums(from, part_stride, 1 << log_split, gate);
      read_sums(from + tile_columns, part_stride, 1 << log_split, up);
      if (gate_bias != nullptr) add_bias(gate_bias, group.bias_stride, column, count, gate);
    } else {
      read_sums(from, part_stride, 1 << log_split, up);
    }
    if (up_bias != nullptr) add_bias(up_bias, group.bias_stride, column, count, up);
    activate_elements<kGated, kKind>(args.activation, gate, up);
    if (scaled) {
      const float weight = outputs.weights[first_token + token];
#pragma unroll
      for (int j = 0; j < 4; ++j) up[j] *= weight;
    }
    const int64_t at = outputs.rows[first_token + token] * group.out_stride + column;
    if (as_f32) {
      store_outputs<float>(group.out, at, up, count, aligned);
    } else {
      store_outputs<Element>(group.out, at, up, count, aligned);
    }
  }
}

template <typename Element, typename Tile, bool kGated>
__device__ __forceinline__ void finish_outputs(const ExpertMatmulKernelArgs& args,
                                               const MatmulGroup& group, const TilePlace& place,
                                               const OutputRows& outputs, int first_token,
                                               int num_tokens, int width, int tile_rows,
                                               int log_split, const float* staged) {
  // Gate and up of nearly every model; down.
  constexpr int kCommonKind = kGated ? SE_SILU : SE_IDENTITY;
  const int kind = kGated || args.apply_activation != 0 ? args.activation.kind : SE_IDENTITY;
  if (kind == kCommonKind) {
    finish_quads<Element, Tile, kGated, kCommonKind>(
        args, group, place, outputs, first_token, num_tokens, width, tile_rows, log_split, staged);
  } else {
    finish_quads<Element, Tile, kGated, kAnyKind>(args, group, place, outputs, first_token,
                                                  num_tokens, width, tile_rows, log_split, staged);
  }
}

}  // namespace sparse_experts::cuda
