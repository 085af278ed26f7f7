// Router logits of many rows in f32 or f16: 64 x 64 outputs per block, 8 x 4 per thread, double-buffered.
// 4096 tokens, 128 experts, H = 2048: 2.1 GFLOP, on an A100 at 60 to 70 % of 19.5 TFLOP/s 0.17 ms.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/warp.cuh"
#include "cuda/kernels/any/router_elements.cuh"

namespace sparse_experts::cuda {

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
