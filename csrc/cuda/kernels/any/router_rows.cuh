// Router logits of few rows in f32 or f16: each lane has a chunk of one expert for one or four tokens. 4 chunks
// x 8 experts are a warp, so one token of 64 experts and 2048 columns is 32 blocks whose loads are all
// under way at once.
// A100: 1 token, 256 experts, H = 7168, f32 weights: 7.3 MB, 4.7 us from HBM (2 us from L2); 64
// experts, H = 2048: 0.5 MB, about 2.5 us, all latency.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/kernels/any/router_elements.cuh"

namespace sparse_experts::cuda {

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

}  // namespace sparse_experts::cuda
