// The inner part of the f32 matmul: one tile of outputs, K in steps through a cp.async pipeline.
//
//   1. every step copies kDepth columns of the tile's rows (weights, then tokens) to shared memory,
//      16 bytes at a time where a matrix is aligned, else 4
//   2. kStages - 1 steps are under way while one is multiplied; one barrier per step
//   3. a thread owns kRowsPerThread x kTokensPerThread outputs
//      and adds to each in rising k with one fused multiply-add
//      per element
// An output is one chain over k whatever the shape of the tile, or kSplit of them, which are added
// in rising order: its bits depend on the operands and on kSplit only.
//
// Shared rows are K-contiguous, as the sources are (cp.async cannot transpose), and read 16 bytes
// at a time. The 16-byte chunks of a row are permuted by the row's number so that 8 lanes with 8
// successive rows meet all 32 banks.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/kernels/any/f32_expert_matmul_shapes.cuh"

namespace sparse_experts::cuda {

// Float offset of a chunk in a slab of rows. Rows that differ by a multiple of 8 are permuted
// alike. A row of more than 128 bytes is permuted within each 128.
template <typename Tile, bool kIsToken>
__device__ __forceinline__ uint32_t chunk_offset(uint32_t row, uint32_t chunk) {
  constexpr uint32_t kLineChunks = Tile::kChunks < 8 ? Tile::kChunks : 8;
  constexpr uint32_t kRowsPerLine = 8 / kLineChunks;
  if constexpr (kIsToken && !Tile::kPermutedTokens) return row * Tile::kDepth + chunk * 4;
  return row * Tile::kDepth + (chunk ^ (row / kRowsPerLine % kLineChunks)) * 4;
}

// One step's columns of kSlabRows rows. Row r is there where (r & mask) < valid, column c where
// c < left; the rest becomes zero. sources[0] is a valid address in any case.
template <typename Tile, bool kIsToken, int kSlabRows>
__device__ __forceinline__ void copy_slab_16(uint32_t slab, const float* const* sources,
                                             uint32_t mask, uint32_t valid, int64_t first_column,
                                             int left) {
  constexpr int kRowStep = Tile::kThreads / Tile::kChunks;
  constexpr bool kAlike = kRowStep % 8 == 0;  // all of a thread's rows are permuted alike
  const uint32_t first_row = threadIdx.x / Tile::kChunks;
  const uint32_t chunk = threadIdx.x % Tile::kChunks;
  const int there = left - static_cast<int>(chunk) * 4;
  const uint32_t bytes = there >= 4 ? 16u : there > 0 ? there * 4u : 0u;
  const int64_t column = there > 0 ? first_column + chunk * 4 : 0;
  const uint32_t to = slab + chunk_offset<Tile, kIsToken>(first_row, chunk) * 4;
#pragma unroll
  for (uint32_t base = 0; base < kSlabRows; base += kRowStep) {
    const uint32_t row = first_row + base;
    if (kSlabRows % kRowStep != 0 && row >= kSlabRows) break;
    const bool is_there = (row & mask) < valid;
    const uint32_t at =
        kAlike ? to + base * Tile::kDepth * 4 : slab + chunk_offset<Tile, kIsToken>(row, chunk) * 4;
    ptx::cp_async_16(at, sources[is_there ? row : 0] + column, is_there ? bytes : 0u);
  }
}

template <typename Tile, bool kIsToken, int kSlabRows>
__device__ __forceinline__ void copy_slab_4(uint32_t slab, const float* const* sources,
                                            uint32_t mask, uint32_t valid, int64_t first_column,
                                            uint32_t left) {
  constexpr int kRowStep = Tile::kThreads / Tile::kDepth;
  const uint32_t first_row = threadIdx.x / Tile::kDepth;
  const uint32_t offset = threadIdx.x % Tile::kDepth;
  const int64_t column = offset < left ? first_column + offset : 0;
#pragma unroll 2
  for (uint32_t row = first_row; row < kSlabRows; row += kRowStep) {
    const bool is_there = (row & mask) < valid;
    const uint32_t to = slab + (chunk_offset<Tile, kIsToken>(row, offset / 4) + offset % 4) * 4;
    ptx::cp_async_4(to, sources[is_there ? row : 0] + column, is_there && offset < left ? 4u : 0u);
  }
}

// What a block needs to know to copy its operands. It lies in shared memory: registers are short.
struct F32Operands {
  int64_t depth;      // K
  uint32_t row_mask;  // kRows - 1, or kRows / 2 - 1 when gated
  uint32_t valid_rows;
  uint32_t valid_tokens;
  int32_t weights_aligned;  // to 16 bytes, in every row
  int32_t tokens_aligned;
};

// `sources` are the tile's rows: kRows of weights, kTokens of tokens.
template <typename Tile, int kUsedTokens>
__device__ __forceinline__ void copy_step(const F32Operands& operands, const float* const* sources,
                                          uint32_t stage, int64_t step) {
  const int64_t first = step * Tile::kDepth;
  const int64_t rest = operands.depth - first;
  const int left = rest < Tile::kDepth ? static_cast<int>(rest) : Tile::kDepth;
  const uint32_t mask = operands.row_mask;
  const uint32_t valid_rows = operands.valid_rows;
  if (operands.weights_aligned) {
    copy_slab_16<Tile, false, Tile::kRows>(stage, sources, mask, valid_rows, first, left);
  } else {
    copy_slab_4<Tile, false, Tile::kRows>(stage, sources, mask, valid_rows, first, left);
  }
  const uint32_t tokens = stage + Tile::kRows * Tile::kDepth * 4;
  const uint32_t valid_tokens = operands.valid_tokens;
  if (operands.tokens_aligned) {
    copy_slab_16<Tile, true, kUsedTokens>(tokens, sources + Tile::kRows, ~0u, valid_tokens, first,
                                          left);
  } else {
    copy_slab_4<Tile, true, kUsedTokens>(tokens, sources + Tile::kRows, ~0u, valid_tokens, first,
                                         left);
  }
}

// Adds one step's columns of `part` to sums[row][token]. Rows of a thread are kRowThreads apart,
// tokens kTokenThreads.
template <typename Tile, int kUsed>
__device__ __forceinline__ void multiply_step(const float* stage, uint32_t part,
                                              uint32_t row_thread, uint32_t token_thread,
                                              float (&sums)[Tile::kRowsPerThread][kUsed]) {
  constexpr int kPartChunks = Tile::kChunks / Tile::kSplit;
  stage += part * kPartChunks * 4;  // a multiple of what is permuted
#pragma unroll(kUsed >= 4 ? 1 : kPartChunks)
  for (int chunk = 0; chunk < kPartChunks; ++chunk) {
    const float* weights = stage + chunk_offset<Tile, false>(row_thread, chunk);
    const float* tokens =
        stage + Tile::kRows * Tile::kDepth + chunk_offset<Tile, true>(token_thread, chunk);
    float4 w[Tile::kRowsPerThread];
#pragma unroll
    for (int i = 0; i < Tile::kRowsPerThread; ++i) {
      w[i] = *reinterpret_cast<const float4*>(weights + i * Tile::kRowThreads * Tile::kDepth);
    }
#pragma unroll
    for (int j = 0; j < kUsed; ++j) {
      const float4 x =
          *reinterpret_cast<const float4*>(tokens + j * Tile::kTokenThreads * Tile::kDepth);
#pragma unroll
      for (int i = 0; i < Tile::kRowsPerThread; ++i) sums[i][j] = fmaf(w[i].x, x.x, sums[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kRowsPerThread; ++i) sums[i][j] = fmaf(w[i].y, x.y, sums[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kRowsPerThread; ++i) sums[i][j] = fmaf(w[i].z, x.z, sums[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kRowsPerThread; ++i) sums[i][j] = fmaf(w[i].w, x.w, sums[i][j]);
    }
  }
}

// Multiplies the tile with kUsed tokens per thread and leaves it in `shared` as
// [part][token][row], kOutStride apart; the parts are to be added. Begins with the sources written
// and a barrier passed; ends with a barrier.
template <typename Tile, int kUsed>
__device__ __forceinline__ void multiply_tile(const F32Operands& operands,
                                              const float* const* sources, float* shared) {
  constexpr int kUsedTokens = kUsed * Tile::kTokenThreads;
  constexpr uint32_t kStageBytes = Tile::kStageFloats * 4;
  constexpr uint32_t kRowWarps = Tile::kRowThreads / Tile::kWarpRows;
  constexpr uint32_t kWarpTokens = 32 / Tile::kWarpRows;
  constexpr uint32_t kPartWarps = Tile::kThreads / 32 / Tile::kSplit;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t part = Tile::kSplit == 1 ? 0 : threadIdx.x / 32 / kPartWarps;
  const uint32_t warp = threadIdx.x / 32 - part * kPartWarps;
  const uint32_t row_thread = warp % kRowWarps * Tile::kWarpRows + lane % Tile::kWarpRows;
  const uint32_t first_token = warp / kRowWarps * kWarpTokens;
  const uint32_t token_thread = first_token + lane / Tile::kWarpRows;
  const bool has_tokens = first_token < operands.valid_tokens;  // the same in all of a warp

  float sums[Tile::kRowsPerThread][kUsed];
#pragma unroll
  for (int i = 0; i < Tile::kRowsPerThread; ++i) {
#pragma unroll
    for (int j = 0; j < kUsed; ++j) sums[i][j] = 0;
  }

  const uint32_t stages = ptx::smem_u32(shared);
  const int64_t steps = (operands.depth + Tile::kDepth - 1) / Tile::kDepth;
#pragma unroll 1
  for (int step = 0; step < Tile::kStages - 1; ++step) {
    if (step < steps)
      copy_step<Tile, kUsedTokens>(operands, sources, stages + step * kStageBytes, step);
    ptx::cp_async_commit();
  }
  uint32_t filled = 0;                   // the stage to multiply
  uint32_t emptied = Tile::kStages - 1;  // the stage that the last step left
#pragma unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    ptx::cp_async_wait<Tile::kStages - 2>();
    __syncthreads();
    if (step + Tile::kStages - 1 < steps)
      copy_step<Tile, kUsedTokens>(operands, sources, stages + emptied * kStageBytes,
                                   step + Tile::kStages - 1);
    ptx::cp_async_commit();
    if (has_tokens)
      multiply_step<Tile, kUsed>(shared + filled * Tile::kStageFloats, part, row_thread,
                                 token_thread, sums);
    emptied = filled;
    filled = filled + 1 == Tile::kStages ? 0 : filled + 1;
  }
  ptx::cp_async_wait<0>();
  __syncthreads();

  // + 0: a sum of -0 becomes +0, as it does where the padding of K adds zeros.
#pragma unroll
  for (int i = 0; i < Tile::kRowsPerThread; ++i) {
#pragma unroll
    for (int j = 0; j < kUsed; ++j) {
      const uint32_t token = part * Tile::kTokens + token_thread + j * Tile::kTokenThreads;
      shared[token * Tile::kOutStride + row_thread + i * Tile::kRowThreads] = sums[i][j] + 0.0f;
    }
  }
  __syncthreads();
}

}  // namespace sparse_experts::cuda
