// Router logits: hidden rows times router rows, f32, every output one fixed tree of sums.
//
//   chunk   128 columns, one chain of fmaf in rising order, from 0
//   split   the chunks of router_split_columns(hidden_size) columns, added in rising order, from 0
// A row of `partials` is a split; who adds the splits does so in rising order (router_splits.cuh).
// The tree depends on the hidden size alone, so both kernels below, any tile and any batch give the
// same bits. Columns behind the hidden size are zeros, which change no sum.
//
//   router_rows  fewer tokens: each lane has a chunk of one expert for one or four tokens.
//                4 chunks x 8 experts are a warp, so one token of 64 experts
//                and 2048 columns is 32 blocks whose loads are all under way
//                at once.
//   router_tile  many tokens: 64 x 64 outputs per block, 8 x 4 per thread, double-buffered.
// A100: 1 token, 256 experts, H = 7168, f32 weights: 7.3 MB, 4.7 us from HBM (2 us from L2); 64
// experts, H = 2048: 0.5 MB, about 2.5 us, all latency. 4096 tokens, 128 experts, H = 2048: 2.1
// GFLOP at 60 to 70 % of 19.5 TFLOP/s, 0.17 ms.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/num.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/warp.cuh"
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

// ---- few tokens -------------------------------------------------------------------------------

// kStep columns of each of a panel's four chunks, for kRows rows, as f32 in shared memory: row r,
// chunk c begins at (4 r + c) * (kStep + 4). The four extra floats keep the lanes of a warp in
// different banks. In two parts, so that all loads of a block are under way before one is waited
// for: f32 is copied asynchronously, other types pass through registers.
template <typename T, int kRows, int kStep>
struct RouterStage {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(T));
  static constexpr int kUnitsPerChunk = kStep / kCount;
  static constexpr int kRowsPerRound = kRouterThreads / (4 * kUnitsPerChunk);
  static constexpr int kRounds = kRows / kRowsPerRound;
  static_assert(kRowsPerRound * 4 * kUnitsPerChunk == kRouterThreads, "whole rows in a round");
  static_assert(kRounds * kRowsPerRound == kRows, "whole rounds");
  static constexpr int kFloats = kRows * 4 * (kStep + 4);

  Packed<T, kCount> held[kRounds];

  // Where the thread's unit of the first round goes; a round is this much further.
  static __device__ __forceinline__ int32_t place() {
    const int32_t thread = static_cast<int32_t>(threadIdx.x);
    return thread / kUnitsPerChunk * (kStep + 4) + thread % kUnitsPerChunk * kCount;
  }
  static constexpr int kRoundFloats = kRowsPerRound * 4 * (kStep + 4);

  // `columns` is the row's length, `first` the step's first column within the panel's first chunk.
  __device__ __forceinline__ void begin(const T* matrix, int64_t stride, int64_t row0, int64_t rows,
                                        int64_t first, int64_t columns, bool vectors,
                                        float* shared) {
    const int32_t thread = static_cast<int32_t>(threadIdx.x);
    const int64_t my_row = row0 + thread / (4 * kUnitsPerChunk);
    const int64_t column =
        first + thread / kUnitsPerChunk % 4 * kRouterChunk + thread % kUnitsPerChunk * kCount;
    if constexpr (sizeof(T) == 4) {
      const int64_t left = columns - column;
      const int32_t in_row = left >= 4 ? 4 : left > 0 ? static_cast<int32_t>(left) : 0;
      // Where nothing is copied, the address is still one of the matrix.
      const T* const source = matrix + (in_row > 0 ? column : 0);
      const uint32_t to = ptx::smem_u32(shared + place());
      if (vectors) {
#pragma unroll
        for (int i = 0; i < kRounds; ++i) {
          const int64_t row = my_row + i * kRowsPerRound;
          ptx::cp_async_16(to + i * kRoundFloats * 4, source + (row < rows ? row * stride : 0),
                           row < rows ? static_cast<uint32_t>(4 * in_row) : 0u);
        }
      } else {
#pragma unroll 1
        for (int i = 0; i < kRounds; ++i) {
          const int64_t row = my_row + i * kRowsPerRound;
          const T* const from = source + (row < rows ? row * stride : 0);
#pragma unroll
          for (int j = 0; j < 4; ++j)
            ptx::cp_async_4(to + i * kRoundFloats * 4 + 4 * j, from + (j < in_row ? j : 0),
                            row < rows && j < in_row ? 4u : 0u);
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < kRounds; ++i) {
        const int64_t row = my_row + i * kRowsPerRound;
        held[i] = load_packed<T, kCount>(matrix + (row < rows ? row * stride : 0), row < rows,
                                         column, columns, vectors);
      }
    }
  }

  __device__ __forceinline__ void end(float* shared) const {
    if constexpr (sizeof(T) != 4) {
#pragma unroll
      for (int i = 0; i < kRounds; ++i) {
        float* const to = shared + place() + i * kRoundFloats;
#pragma unroll
        for (int j = 0; j < kCount; j += 4) {
          *reinterpret_cast<float4*>(to + j) =
              make_float4(packed_float(held[i], j), packed_float(held[i], j + 1),
                          packed_float(held[i], j + 2), packed_float(held[i], j + 3));
        }
      }
    }
  }
};

constexpr int kRouterRowsExperts = 8;
constexpr int kRouterRowsWarps = kRouterThreads / 32;

// Grid: x = token tile * expert tiles + expert tile, y = split. kTokens per warp.
template <typename Hidden, typename Weight, int kTokens>
__global__ void __launch_bounds__(kRouterThreads, kTokens == 1 ? 4 : 3)
    router_rows_kernel(RouterKernelArgs args, RouterShape shape) {
  await_launches();
  constexpr int kStep = kTokens == 1 ? 128 : 64;
  constexpr int kTileTokens = kRouterRowsWarps * kTokens;
  using HiddenStage = RouterStage<Hidden, kTileTokens, kStep>;
  using WeightStage = RouterStage<Weight, kRouterRowsExperts, kStep>;
  SE_DYNAMIC_SHARED(shared);
  float* const weights = reinterpret_cast<float*>(shared);
  float* const rows = weights + WeightStage::kFloats;
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  const int64_t first_token = blockIdx.x / shape.expert_tiles * kTileTokens;
  const int64_t first_expert = blockIdx.x % shape.expert_tiles * kRouterRowsExperts;
  const int64_t begin = blockIdx.y * shape.split_columns;
  const int64_t end = min(args.hidden_size, begin + shape.split_columns);
  const Hidden* const hidden = static_cast<const Hidden*>(args.hidden);
  const Weight* const weight = static_cast<const Weight*>(args.weight);
  const float* const my_weights = weights + lane * (kStep + 4);  // expert lane / 4, chunk lane % 4
  const float* const my_rows = rows + (warp * kTokens * 4 + lane % 4) * (kStep + 4);

  float totals[kTokens];
#pragma unroll
  for (int t = 0; t < kTokens; ++t) totals[t] = 0.0f;
  for (int64_t panel = begin; panel < end; panel += kRouterPanel) {
    float sums[kTokens];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) sums[t] = 0.0f;
#pragma unroll 1
    for (int32_t step = 0; step < kRouterChunk; step += kStep) {
      WeightStage weight_stage;
      HiddenStage hidden_stage;
      weight_stage.begin(weight, args.weight_stride, first_expert, args.num_experts, panel + step,
                         args.hidden_size, shape.weight_vectors, weights);
      hidden_stage.begin(hidden, args.hidden_stride, first_token, args.num_tokens, panel + step,
                         args.hidden_size, shape.hidden_vectors, rows);
      weight_stage.end(weights);
      hidden_stage.end(rows);
      ptx::cp_async_commit();
      ptx::cp_async_wait<0>();
      __syncthreads();
#pragma unroll 8
      for (int32_t k = 0; k < kStep; k += 4) {
        const float4 w = *reinterpret_cast<const float4*>(my_weights + k);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
          const float4 x = *reinterpret_cast<const float4*>(my_rows + t * 4 * (kStep + 4) + k);
          sums[t] = fmaf(x.x, w.x, sums[t]);
          sums[t] = fmaf(x.y, w.y, sums[t]);
          sums[t] = fmaf(x.z, w.z, sums[t]);
          sums[t] = fmaf(x.w, w.w, sums[t]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const float sum = __shfl_sync(kFullWarp, sums[t], (lane & ~3) + c);
        if (panel + c * kRouterChunk < end) totals[t] += sum;
      }
    }
  }
  const int64_t expert = first_expert + lane / 4;
  if (lane % 4 != 0 || expert >= args.num_experts) return;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const int64_t token = first_token + warp * kTokens + t;
    if (token < args.num_tokens)
      args.partials[(blockIdx.y * args.num_tokens + token) * args.num_experts + expert] = totals[t];
  }
}

template <typename Hidden, typename Weight, int kTokens>
constexpr size_t router_rows_shared_bytes() {
  constexpr int kStep = kTokens == 1 ? 128 : 64;
  return static_cast<size_t>(RouterStage<Hidden, kRouterRowsWarps * kTokens, kStep>::kFloats +
                             RouterStage<Weight, kRouterRowsExperts, kStep>::kFloats) *
         sizeof(float);
}

// ---- many tokens ------------------------------------------------------------------------------

constexpr int kRouterTile = 64;      // tokens, and experts
constexpr int kRouterTileStep = 16;  // columns in shared memory at a time
constexpr int kRouterTileStride = kRouterTile + 4;
constexpr int kRouterTileUnits = kRouterTile * kRouterTileStep / 4 / kRouterThreads;

// 64 rows of 16 columns on their way to shared memory, where they stand column by column.
template <typename T>
struct RouterTileStage {
  Packed<T, 4> held[kRouterTileUnits];

  __device__ __forceinline__ void load(const T* matrix, int64_t stride, int64_t row0, int64_t rows,
                                       int64_t column0, int64_t columns, bool vectors) {
#pragma unroll
    for (int i = 0; i < kRouterTileUnits; ++i) {
      const int32_t unit = i * kRouterThreads + static_cast<int32_t>(threadIdx.x);
      const int64_t row = row0 + unit / 4;
      const bool exists = row < rows;
      held[i] = load_packed<T, 4>(matrix + (exists ? row * stride : 0), exists,
                                  column0 + unit % 4 * 4, columns, vectors);
    }
  }

  __device__ __forceinline__ void store(float* shared) const {
#pragma unroll
    for (int i = 0; i < kRouterTileUnits; ++i) {
      const int32_t unit = i * kRouterThreads + static_cast<int32_t>(threadIdx.x);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        shared[(unit % 4 * 4 + j) * kRouterTileStride + unit / 4] = packed_float(held[i], j);
    }
  }
};

// Grid as above. Thread (8 rows of tokens, 4 columns of experts).
template <typename Hidden, typename Weight>
__global__ void __launch_bounds__(kRouterThreads)
    router_tile_kernel(RouterKernelArgs args, RouterShape shape) {
  await_launches();
  constexpr int kStageFloats = 2 * kRouterTileStep * kRouterTileStride;
  SE_DYNAMIC_SHARED(shared);
  float* const stages = reinterpret_cast<float*>(shared);
  const int64_t first_token = blockIdx.x / shape.expert_tiles * kRouterTile;
  const int64_t first_expert = blockIdx.x % shape.expert_tiles * kRouterTile;
  const int64_t begin = blockIdx.y * shape.split_columns;
  const int64_t end = min(args.hidden_size, begin + shape.split_columns);
  const Hidden* const hidden = static_cast<const Hidden*>(args.hidden);
  const Weight* const weight = static_cast<const Weight*>(args.weight);
  // A warp covers 32 tokens x 32 experts: 4 x 8 threads.
  const int32_t lane = lane_index();
  const int32_t warp = warp_index();
  const int32_t token0 = warp / 2 * 32 + lane / 8 * 8;
  const int32_t expert0 = warp % 2 * 32 + lane % 8 * 4;

  float totals[8][4];
  float sums[8][4];
#pragma unroll
  for (int t = 0; t < 8; ++t) {
#pragma unroll
    for (int e = 0; e < 4; ++e) totals[t][e] = sums[t][e] = 0.0f;
  }
  RouterTileStage<Hidden> hidden_stage;
  RouterTileStage<Weight> weight_stage;
  const int32_t num_steps =
      static_cast<int32_t>((end - begin + kRouterTileStep - 1) / kRouterTileStep);
  for (int32_t step = -1; step < num_steps; ++step) {
    // Loads of the next step, then the arithmetic of this one, then the loads' way to shared
    // memory: into the half that this step does not read.
    const bool loads = step + 1 < num_steps;
    if (loads) {
      const int64_t column = begin + int64_t{step + 1} * kRouterTileStep;
      hidden_stage.load(hidden, args.hidden_stride, first_token, args.num_tokens, column,
                        args.hidden_size, shape.hidden_vectors);
      weight_stage.load(weight, args.weight_stride, first_expert, args.num_experts, column,
                        args.hidden_size, shape.weight_vectors);
    }
    if (step >= 0) {
      const float* const stage = stages + (step & 1) * kStageFloats;
#pragma unroll
      for (int k = 0; k < kRouterTileStep; ++k) {
        const float* const tokens = stage + k * kRouterTileStride + token0;
        const float* const experts = stage + (kRouterTileStep + k) * kRouterTileStride + expert0;
        const float4 x0 = *reinterpret_cast<const float4*>(tokens);
        const float4 x1 = *reinterpret_cast<const float4*>(tokens + 4);
        const float4 w = *reinterpret_cast<const float4*>(experts);
        const float xs[8] = {x0.x, x0.y, x0.z, x0.w, x1.x, x1.y, x1.z, x1.w};
        const float ws[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int t = 0; t < 8; ++t) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[t][e] = fmaf(xs[t], ws[e], sums[t][e]);
        }
      }
      const bool chunk_ends = (step + 1) % (kRouterChunk / kRouterTileStep) == 0;
      if (chunk_ends || !loads) {
#pragma unroll
        for (int t = 0; t < 8; ++t) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            totals[t][e] += sums[t][e];
            sums[t][e] = 0.0f;
          }
        }
      }
    }
    if (loads) {
      float* const stage = stages + ((step + 1) & 1) * kStageFloats;
      hidden_stage.store(stage);
      weight_stage.store(stage + kRouterTileStep * kRouterTileStride);
    }
    __syncthreads();
  }
#pragma unroll
  for (int t = 0; t < 8; ++t) {
    const int64_t token = first_token + token0 + t;
    if (token >= args.num_tokens) continue;
    float* const row = args.partials + (blockIdx.y * args.num_tokens + token) * args.num_experts;
    const int64_t expert = first_expert + expert0;
    if (shape.logit_vectors && expert < args.num_experts) {  // then so are the next three
      *reinterpret_cast<float4*>(row + expert) =
          make_float4(totals[t][0], totals[t][1], totals[t][2], totals[t][3]);
      continue;
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (expert + e < args.num_experts) row[expert + e] = totals[t][e];
    }
  }
}

constexpr size_t kRouterTileSharedBytes =
    size_t{2} * 2 * kRouterTileStep * kRouterTileStride * sizeof(float);

}  // namespace sparse_experts::cuda
