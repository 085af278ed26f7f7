// The inner part of the matmul by stored codes: one tile of products, K in rising steps.
//
//   1. all stages but one are under way while that one is multiplied; one barrier per stage
//   2. 64 columns of a warp's 16 rows are decoded into registers at a time, whatever the number of tokens
//   3. the k16 steps of a group, whose columns share a scale, add up in order from zero; at its end that
//      sum times the scale is added to the output's accumulator in f32. Where groups have offsets, the
//      sum of their columns of x is made beside, by products with ones
// Codes are exact in 16 bits and no scale is ever rounded into a weight. Groups and their order follow
// from the matrix alone: a row's bits are those of the row alone.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/sm80/half_expert_matmul_mma.cuh"
#include "cuda/kernels/sm80/stored_decode.cuh"
#include "cuda/kernels/sm80/stored_expert_matmul_load.cuh"
#include "cuda/kernels/sm80/stored_scales.cuh"

namespace sparse_experts::cuda {

// What a warp multiplies of a stage: the units of the two halves of its rows, and the tokens.
struct StageView {
  const unsigned char* units[2];
  uint32_t tokens;  // shared
  int piece_bytes;  // of all tokens
};

// Of a tile, in registers.
struct StoredRules {
  NibbleRules nibbles;
  ScaleRules scales;
  float multipliers[2];  // of the scales of each half of the rows
};

// Sums of a group, from zero.
template <int kWidth>
struct GroupSums {
  float products[kWidth][4];
  float tokens[kWidth][4];  // of x alone, in every row

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int n = 0; n < kWidth; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) products[n][i] = tokens[n][i] = 0.0f;
    }
  }
};

// A lane's codes of 64 columns.
template <int kWords>
__device__ __forceinline__ void load_codes(const unsigned char* unit, int piece,
                                           uint32_t (&words)[kWords]) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const unsigned char* const from = unit + (piece * 32 + lane) * kWords * 4;
  if constexpr (kWords == 2) {
    const uint2 two = *reinterpret_cast<const uint2*>(from);
    words[0] = two.x;
    words[1] = two.y;
  } else {
    const uint4 four = *reinterpret_cast<const uint4*>(from);
    words[0] = four.x;
    words[1] = four.y;
    words[2] = four.z;
    words[3] = four.w;
  }
}

// Fragments of tokens of one k16 step of a piece.
template <int kWidth>
__device__ __forceinline__ void load_tokens(uint32_t piece, int step, uint32_t (&b)[kWidth][2]) {
  const uint32_t lane = threadIdx.x & 31u;
  const uint32_t chunk = static_cast<uint32_t>(step) * 2 + lane / 8 % 2;
  if constexpr (kWidth == 1) {
    ptx::ldmatrix_x2(b[0], piece + swizzled<8>(lane % 8, chunk));
  } else {
    const uint32_t first = piece + swizzled<8>(lane % 8 + lane / 16 * 8, chunk);
#pragma unroll
    for (int n = 0; n < kWidth; n += 2) {
      uint32_t pair[4];
      ptx::ldmatrix_x4(pair, first + static_cast<uint32_t>(n * 8 * kPieceRowBytes));
      b[n][0] = pair[0];
      b[n][1] = pair[1];
      b[n + 1][0] = pair[2];
      b[n + 1][1] = pair[3];
    }
  }
}

// Step 3 of a group that has ended, whose sums begin anew.
template <int kWidth, int kMaxWidth>
__device__ __forceinline__ void finish_group(float (&sums)[kMaxWidth][4],
                                             GroupSums<kWidth>& group_sums,
                                             const StoredChunk& places, const StageView& stage,
                                             const StoredRules& rules, int group) {
  const int32_t offsets = rules.scales.offset;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned char* const unit = stage.units[half];
    const float scale = group_scale(rules.scales, places, unit, group) * rules.multipliers[half];
    float offset = 0.0f;
    if (offsets != SE_OFFSET_NONE) offset = group_offset(rules.scales, places, unit, group);
#pragma unroll
    for (int n = 0; n < kWidth; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float product = group_sums.products[n][half * 2 + i];
        float& sum = sums[n][half * 2 + i];
        if (offsets == SE_OFFSET_ZERO) product = fmaf(-offset, group_sums.tokens[n][i], product);
        sum = fmaf(scale, product, sum);
        if (offsets != SE_OFFSET_NONE && offsets != SE_OFFSET_ZERO)
          sum = fmaf(offset, group_sums.tokens[n][i], sum);
      }
    }
  }
  group_sums.clear();
}

// Steps 2 and 3 of one stage.
template <typename Element, typename Codes, int kWidth, int kMaxWidth>
__device__ __forceinline__ void multiply_chunk(float (&sums)[kMaxWidth][4],
                                               const StoredLayout& layout, bool is_last,
                                               const StageView& stage, const StoredRules& rules) {
  const StoredChunk places = is_last ? layout.last : layout.whole;
  const int num_steps = (is_last ? layout.last_cols : kChunkCols) / 16;
  const int last_of_group = rules.scales.group_steps - 1;
  int group = 0;
  GroupSums<kWidth> group_sums;
  group_sums.clear();
#pragma unroll 1
  for (int piece = 0; piece * 4 < num_steps; ++piece) {
    uint32_t words[Codes::kLaneWords];
    PieceValues values[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      load_codes(stage.units[half], piece, words);
      decode_piece<Element>(Codes(), words, rules.nibbles, values[half]);
    }
    const uint32_t tokens = stage.tokens + static_cast<uint32_t>(piece * stage.piece_bytes);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      uint32_t b[kWidth][2];
      load_tokens(tokens, step, b);
      const uint32_t a[4] = {values[0][step][0], values[1][step][0], values[0][step][1],
                             values[1][step][1]};
#pragma unroll
      for (int n = 0; n < kWidth; ++n) multiply_fragment<Element>(group_sums.products[n], a, b[n]);
      if (rules.scales.has_offsets()) {
        constexpr uint32_t kOne = Pair<Element>::kOne;
        const uint32_t ones[4] = {kOne, kOne, kOne, kOne};
#pragma unroll
        for (int n = 0; n < kWidth; ++n)
          multiply_fragment<Element>(group_sums.tokens[n], ones, b[n]);
      }
      if (((piece * 4 + step + 1) & last_of_group) == 0)
        finish_group(sums, group_sums, places, stage, rules, group++);
    }
  }
  if ((num_steps & last_of_group) != 0) finish_group(sums, group_sums, places, stage, rules, group);
}

// Returns when at most num_stages - 2 of the thread's latest groups of copies are under way.
__device__ __forceinline__ void wait_for_chunk(int num_stages) {
  if (num_stages == 2) {
    ptx::cp_async_wait<0>();
  } else if (num_stages == 3) {
    ptx::cp_async_wait<1>();
  } else {
    ptx::cp_async_wait<2>();
  }
}

// Step 1, for kWidth fragments of tokens.
template <typename Element, typename Codes, typename Tile, int kWidth>
__device__ __forceinline__ void multiply_stored_tile(float (&sums)[Tile::kFragmentsN][4],
                                                     const StoredLoader<Tile>& loader,
                                                     const StoredLayout& layout,
                                                     const StoredRules& rules,
                                                     unsigned char* stages, int num_stages) {
  static_assert(Tile::kWarpsM == 4 && Tile::kUnits == 8, "a warp has two units");
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int units_bytes = Tile::kUnits * layout.largest_chunk;
  const int stage_bytes = units_bytes + loader.tile_tokens * kChunkCols * 2;
  const int num_chunks = layout.num_chunks;
#pragma unroll
  for (int n = 0; n < Tile::kFragmentsN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[n][i] = 0.0f;
  }
#pragma unroll 1
  for (int chunk = 0; chunk < num_stages - 1; ++chunk) {
    if (chunk < num_chunks) loader.load(layout, chunk, kWidth * 8, stages + chunk * stage_bytes);
    ptx::cp_async_commit();
  }
  int read_at = 0;
  int write_at = (num_stages - 1) * stage_bytes;
  const int end = num_stages * stage_bytes;
#pragma unroll 1
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    wait_for_chunk(num_stages);
    // The chunk is there for all warps, and none reads the stage before it any more.
    __syncthreads();
    const int next = chunk + num_stages - 1;
    if (next < num_chunks) loader.load(layout, next, kWidth * 8, stages + write_at);
    ptx::cp_async_commit();
    write_at = write_at + stage_bytes == end ? 0 : write_at + stage_bytes;
    const unsigned char* const stage = stages + read_at;
    const unsigned char* const unit = stage + warp * (units_bytes / 4);
    const StageView view = {{unit, unit + units_bytes / 8},
                            ptx::smem_u32(stage) + static_cast<uint32_t>(units_bytes),
                            loader.tile_tokens * kPieceRowBytes};
    multiply_chunk<Element, Codes, kWidth>(sums, layout, chunk + 1 == num_chunks, view, rules);
    read_at = read_at + stage_bytes == end ? 0 : read_at + stage_bytes;
  }
  ptx::cp_async_wait<0>();
}

}  // namespace sparse_experts::cuda
