// Router logits of bf16 rows on tensor cores, as exact as multiply-adds in f32.
//
//   parts   a router weight is a sum of bf16 numbers, without a rounding: three for f32 (8 bits of its
//           significand each; what lies below 2^-133 is lost), two for f16, one for bf16
//   k16     the products of 16 columns with all parts, the least parts first, in an accumulator that begins
//           at 0: what tensor cores cut off is measured by these products alone, not by the sum so far
//   chunk   the 8 of 128 columns, added in f32 in rising order, from 0; each of a block's four warps has one
//
// Tokens are the M operand and experts the N operand. Operands go from global memory to registers: a lane
// loads 16 bytes of a row at a time, and no element twice.
// 4096 tokens, 64 experts, H = 2048: 101 MB from L2 and 3.2 GFLOP; docs/performance/model.md has the times.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/kernels/any/router_elements.cuh"

namespace sparse_experts::cuda {

constexpr int kRouterLaneColumns = 8;

// A lane's columns of every 32: those of successive lanes follow each other. They are its places in two
// k16 steps, in another order than the instruction counts them; the same one for both operands.
template <typename T>
struct RouterLane {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(T));
  static constexpr int kLoads = kRouterLaneColumns / kCount;
  Packed<T, kCount> loads[kLoads];

  // kPlain: all columns are there, and aligned.
  template <bool kPlain>
  __device__ __forceinline__ void load(const T* row, int64_t column, int64_t columns,
                                       bool vectors) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      loads[i] = load_packed<T, kCount>(row, true, column + i * kCount,
                                        kPlain ? INT64_MAX : columns, kPlain || vectors);
    }
  }
  __device__ __forceinline__ float value(int i) const {
    return packed_float(loads[i / kCount], i % kCount);
  }
};

template <typename Weight>
constexpr int kRouterParts = DtypeOf<Weight>::value == SE_F32   ? 3
                             : DtypeOf<Weight>::value == SE_F16 ? 2
                                                                : 1;

// A number without its upper 16 bits, which are a bf16; nothing of one that is not finite.
__device__ __forceinline__ float rest_of(float value, uint32_t upper) {
  const float rest = value - bits_float(upper);
  return rest == rest ? rest : 0.0f;
}

// Weights i and i + 1 of a lane as pairs of bf16 whose sums they are, the greatest first.
template <typename Weight>
__device__ __forceinline__ void split_weights(const RouterLane<Weight>& lane, int i,
                                              uint32_t (&parts)[kRouterParts<Weight>]) {
  if constexpr (kRouterParts<Weight> == 1) {
    parts[0] = lane.loads[0].words[i / 2];
  } else {
    float low = lane.value(i);
    float high = lane.value(i + 1);
#pragma unroll
    for (int part = 0; part < kRouterParts<Weight>; ++part) {
      const uint32_t low_bits = float_bits(low) & 0xffff0000u;
      const uint32_t high_bits = float_bits(high) & 0xffff0000u;
      parts[part] = low_bits >> 16 | high_bits;
      low = rest_of(low, low_bits);
      high = rest_of(high, high_bits);
    }
  }
}

// One k16 step: `half` of the lanes' columns.
template <typename Weight, int kM, int kN>
__device__ __forceinline__ void add_products(const RouterLane<Bf16> (&tokens)[kM][2],
                                             const RouterLane<Weight> (&weights)[kN], int half,
                                             float (&sums)[kM][kN][4]) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    uint32_t parts[2][kRouterParts<Weight>];
    split_weights(weights[n], half * 4, parts[0]);
    split_weights(weights[n], half * 4 + 2, parts[1]);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const uint32_t (&upper)[4] = tokens[m][0].loads[0].words;
      const uint32_t (&lower)[4] = tokens[m][1].loads[0].words;
      const uint32_t a[4] = {upper[half * 2], lower[half * 2], upper[half * 2 + 1],
                             lower[half * 2 + 1]};
      float products[4] = {};
#pragma unroll
      for (int part = kRouterParts<Weight> - 1; part >= 0; --part) {
        const uint32_t b[2] = {parts[0][part], parts[1][part]};
        ptx::mma_m16n8k16_bf16(products, a, b);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] += products[i];
    }
  }
}

// One chunk; `column` is the lane's first one in it.
template <typename Weight, int kM, int kN, bool kPlain>
__device__ __forceinline__ void add_chunk(const Bf16* const (&rows)[kM][2],
                                          const Weight* const (&experts)[kN], int64_t column,
                                          int64_t columns, const RouterShape& shape,
                                          float (&sums)[kM][kN][4]) {
  constexpr int kStep = 4 * kRouterLaneColumns;
  // Of few outputs all loads of a chunk are under way at once.
#pragma unroll(kPlain&& kM == 1 ? kRouterChunk / kStep : 1)
  for (int k = 0; k < kRouterChunk; k += kStep) {
    RouterLane<Bf16> tokens[kM][2];
    RouterLane<Weight> weights[kN];
#pragma unroll
    for (int n = 0; n < kN; ++n)
      weights[n].template load<kPlain>(experts[n], column + k, columns, shape.weight_vectors);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int i = 0; i < 2; ++i)
        tokens[m][i].template load<kPlain>(rows[m][i], column + k, columns, shape.hidden_vectors);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) add_products(tokens, weights, half, sums);
  }
}

// kTokens a multiple of 16, kExperts of 8.
template <int kTokens, int kExperts>
struct RouterMmaTile {
  // Floats from a token's sums to the next one's: 8 more than a multiple of 32, so that a warp's pairs meet
  // all banks.
  static constexpr int kStride = kExperts == 8 ? 8 : kExperts + 8;
  static constexpr int kChunkFloats = kTokens * kStride;
  static constexpr size_t kSharedBytes = sizeof(float) * kChunkFloats * kRouterThreads / 32;
  static_assert(kTokens % 16 == 0 && kStride % 32 == 8, "whole fragments, banks");
};

// Grid: x = token tile * expert tiles + expert tile, y = split.
template <typename Weight, int kTokens, int kExperts>
__global__ void __launch_bounds__(kRouterThreads, kTokens == 16 ? 4 : 2)
    router_mma_kernel(RouterKernelArgs args, RouterShape shape) {
  await_launches();
  using Tile = RouterMmaTile<kTokens, kExperts>;
  constexpr int kM = kTokens / 16;
  constexpr int kN = kExperts / 8;
  constexpr int kOutputs = kTokens * kExperts / kRouterThreads;
  static_assert(kRouterPanel == kRouterChunk * kRouterThreads / 32, "a chunk for each warp");
  SE_DYNAMIC_SHARED(shared);
  float* const chunks = reinterpret_cast<float*>(shared);
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  const int64_t first_token = blockIdx.x / shape.expert_tiles * kTokens;
  const int64_t first_expert = blockIdx.x % shape.expert_tiles * kExperts;
  const int64_t begin = blockIdx.y * shape.split_columns;
  const int64_t end = min(args.hidden_size, begin + shape.split_columns);

  // Behind the last row it is that one again: those sums are stored nowhere.
  const Bf16* rows[kM][2];
  const Weight* experts[kN];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t row = min(first_token + m * 16 + i * 8 + lane / 4, args.num_tokens - 1);
      rows[m][i] = static_cast<const Bf16*>(args.hidden) + row * args.hidden_stride;
    }
  }
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const int64_t row = min(first_expert + n * 8 + lane / 4, args.num_experts - 1);
    experts[n] = static_cast<const Weight*>(args.weight) + row * args.weight_stride;
  }

  float totals[kOutputs] = {};
  for (int64_t panel = begin; panel < end; panel += kRouterPanel) {
    float sums[kM][kN][4] = {};
    const int64_t chunk = panel + warp * kRouterChunk;
    const int64_t column = chunk + lane % 4 * kRouterLaneColumns;
    if (shape.hidden_vectors && shape.weight_vectors && chunk + kRouterChunk <= args.hidden_size) {
      add_chunk<Weight, kM, kN, true>(rows, experts, column, args.hidden_size, shape, sums);
    } else if (chunk < end) {
      add_chunk<Weight, kM, kN, false>(rows, experts, column, args.hidden_size, shape, sums);
    }
    float* const own = chunks + warp * Tile::kChunkFloats + lane / 4 * Tile::kStride + lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        float* const to = own + m * 16 * Tile::kStride + n * 8;
        const float (&own_sums)[4] = sums[m][n];
        *reinterpret_cast<uint2*>(to) =
            make_uint2(float_bits(own_sums[0]), float_bits(own_sums[1]));
        *reinterpret_cast<uint2*>(to + 8 * Tile::kStride) =
            make_uint2(float_bits(own_sums[2]), float_bits(own_sums[3]));
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
      const int output = i * kRouterThreads + static_cast<int>(threadIdx.x);
      const float* const from = chunks + output / kExperts * Tile::kStride + output % kExperts;
#pragma unroll
      for (int c = 0; c < kRouterThreads / 32; ++c) {
        if (panel + c * kRouterChunk < end) totals[i] += from[c * Tile::kChunkFloats];
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kOutputs; ++i) {
    const int output = i * kRouterThreads + static_cast<int>(threadIdx.x);
    const int64_t token = first_token + output / kExperts;
    const int64_t expert = first_expert + output % kExperts;
    if (token < args.num_tokens && expert < args.num_experts)
      args.partials[(blockIdx.y * args.num_tokens + token) * args.num_experts + expert] = totals[i];
  }
}

}  // namespace sparse_experts::cuda
