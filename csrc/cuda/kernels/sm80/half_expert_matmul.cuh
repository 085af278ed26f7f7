// Grouped matmul on tensor cores: every expert's tokens times its matrices, in one launch.
//
//   1. a persistent block takes every gridDim-th tile of both groups (expert_matmul_tiles.cuh)
//   2. it looks up where the tile's tokens come from and go to
//   3. it multiplies (half_expert_matmul_mma.cuh), with the least width that holds the tile's tokens: an
//      expert's last tile costs what its tokens need
//   4. it finishes the outputs (half_expert_matmul_epilogue.cuh)
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/expert_matmul_tiles.cuh"
#include "cuda/kernels/sm80/half_expert_matmul_epilogue.cuh"
#include "cuda/kernels/sm80/half_expert_matmul_mma.cuh"

namespace sparse_experts::cuda {

// Step 2, one token per thread. Tokens up to `width` that the tile does not have get row -1.
__device__ __forceinline__ void find_rows(const MatmulGroup& group, const TilePlace& place,
                                          int width, int num_threads, int32_t* x_rows,
                                          int32_t* out_rows, float* weights) {
  for (int token = static_cast<int>(threadIdx.x); token < width; token += num_threads) {
    if (token >= place.num_tokens) {
      x_rows[token] = -1;
      continue;
    }
    const int32_t entry = place.first_entry + token;
    const int32_t slot = group.slots != nullptr ? group.slots[entry] : entry;
    x_rows[token] = group.x_index == RowIndex::kSorted  ? entry
                    : group.x_index == RowIndex::kToken ? slot / static_cast<int32_t>(group.top_k)
                                                        : slot;
    out_rows[token] = group.out_index == RowIndex::kSorted ? entry : slot;
    weights[token] = group.slot_weights != nullptr ? group.slot_weights[slot] : 1.0f;
  }
}

// Fragments of tokens per warp that a tile may have: there is an instance of the inner loop for each. The
// next narrower one than `width`; 0: none.
__host__ __device__ constexpr int narrower_width(int width) {
  return width > 6 ? 6 : width > 4 ? 4 : width > 3 ? 3 : width > 2 ? 2 : width > 1 ? 1 : 0;
}

// The least one that holds a tile's tokens.
template <typename Tile, int kWidth = Tile::kFragmentsN>
__device__ __forceinline__ int width_of(int num_tokens) {
  constexpr int kNarrower = narrower_width(kWidth);
  if constexpr (kNarrower > 0) {
    if (num_tokens <= kNarrower * Tile::kMinTokens) return width_of<Tile, kNarrower>(num_tokens);
  }
  return kWidth;
}

// Step 3.
template <typename Element, typename Tile, int kWidth>
__device__ __forceinline__ void multiply_width(
    int width, float (&sums)[Tile::kFragmentsM][Tile::kFragmentsN][4], StageLoader<Tile>& loader,
    const WarpPlace& warp, unsigned char* stages, int num_stages) {
  constexpr int kNarrower = narrower_width(kWidth);
  if constexpr (kNarrower > 0) {
    if (width < kWidth) {
      return multiply_width<Element, Tile, kNarrower>(width, sums, loader, warp, stages,
                                                      num_stages);
    }
  }
  multiply_tile<Element, Tile, kWidth>(sums, loader, warp, stages, num_stages);
}

template <typename Element, typename Tile, bool kGated>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    half_expert_matmul_kernel(ExpertMatmulKernelArgs args, int32_t tile_tokens, int32_t log_split_k,
                              int32_t num_stages) {
  await_launches();
  SE_DYNAMIC_SHARED(stages);
  SE_SHARED(MatmulGroup, groups, 2);
  SE_SHARED(uint32_t, num_tiles, 2);
  SE_SHARED(int32_t, x_rows, Tile::kMaxTokens);
  SE_SHARED(int32_t, out_rows, Tile::kMaxTokens);
  SE_SHARED(float, weights, Tile::kMaxTokens);
  // What a tile needs again after or rarely during its products: registers are short there.
  SE_SHARED(TilePlace, places, 1);
  SE_SHARED(StageSource, sources, 1);

  const int log_split = Tile::kMaxSplit == 1 ? 0 : log_split_k;
  const int tile_rows = Tile::kRows >> log_split;
  const int tile_columns = kGated ? tile_rows / 2 : tile_rows;
  // The groups are indexed by a number that only the tile knows: kernel parameters cannot be.
  if (threadIdx.x == 0) {
    groups[0] = args.groups[0];
    num_tiles[0] = args.num_groups > 0 ? group_tiles(groups[0], tile_columns, tile_tokens) : 0;
  }
  if (threadIdx.x == 32) {
    groups[1] = args.groups[1];
    num_tiles[1] = args.num_groups > 1 ? group_tiles(groups[1], tile_columns, tile_tokens) : 0;
  }
  __syncthreads();

  const int warp_id = static_cast<int>(threadIdx.x) / 32;
  const int strips = Tile::kWarpsM >> log_split;
  const WarpPlace warp = {warp_id % strips, Tile::kWarpsN > 1 ? warp_id / strips : 0,
                          Tile::kWarpsN > 1 ? 0 : warp_id / strips};
  for (uint32_t tile = blockIdx.x; tile < num_tiles[0] + num_tiles[1]; tile += gridDim.x) {
    const int second = tile >= num_tiles[0];
    const MatmulGroup& group = groups[second];
    const TilePlace place =
        place_of_tile(group, second ? tile - num_tiles[0] : tile, tile_columns, tile_tokens);
    const int width = width_of<Tile>(place.num_tokens);
    find_rows(group, place, width * Tile::kMinTokens, Tile::kThreads, x_rows, out_rows, weights);
    StageLoader<Tile> loader;
    loader.template start<kGated>(group, place, x_rows, sources, log_split, tile_tokens);
    if (threadIdx.x == 0) places[0] = place;
    __syncthreads();

    float sums[Tile::kFragmentsM][Tile::kFragmentsN][4];
    multiply_width<Element, Tile, Tile::kFragmentsN>(width, sums, loader, warp, stages, num_stages);

    const int num_tile_tokens = places[0].num_tokens;
    const int strip_width = width_of<Tile>(num_tile_tokens);
    float* staged = reinterpret_cast<float*>(stages);
    for (int strip = 0; strip < Tile::kWarpsN; ++strip) {
      const int first_token = strip * strip_width * 8;
      if (first_token >= num_tile_tokens) break;
      __syncthreads();
      if (warp.n == strip) stage_sums<Tile, kGated>(sums, warp, strip_width, tile_rows, staged);
      __syncthreads();
      const int left = num_tile_tokens - first_token;
      const int num_tokens = left < strip_width * 8 ? left : strip_width * 8;
      finish_outputs<Element, Tile, kGated>(args, group, places[0], {out_rows, weights},
                                            first_token, num_tokens, strip_width, tile_rows,
                                            log_split, staged);
    }
    __syncthreads();
  }
}

}  // namespace sparse_experts::cuda
