// Grouped matmul on tensor cores by weights as they are stored: codes of 4 and 8 bits with scales.
//
//   1. a block takes every gridDim-th tile of both groups (expert_matmul_tiles.cuh)
//   2. it looks up where the tile's tokens come from and go to
//   3. it multiplies (stored_expert_matmul_mma.cuh), with the least width that holds the tile's tokens
//   4. it finishes the outputs (half_expert_matmul_epilogue.cuh)
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/expert_matmul_tiles.cuh"
#include "cuda/kernels/sm80/half_expert_matmul.cuh"
#include "cuda/kernels/sm80/half_expert_matmul_epilogue.cuh"
#include "cuda/kernels/sm80/stored_expert_matmul_mma.cuh"

namespace sparse_experts::cuda {

// Of both groups.
struct StoredLayouts {
  StoredLayout of[2];
};

// Fragments of tokens for a tile.
template <typename Tile>
__device__ __forceinline__ int stored_width(int num_tokens) {
  int width = Tile::kLeastWidth;
  while (width * 8 < num_tokens) width *= 2;
  return width;
}

// Step 3: one instance of the inner loop for each width.
template <typename Element, typename Codes, typename Tile, int kWidth>
__device__ __forceinline__ void multiply_stored(int width, float (&sums)[Tile::kFragmentsN][4],
                                                const StoredLoader<Tile>& loader,
                                                const StoredLayout& layout,
                                                const StoredRules& rules, unsigned char* stages,
                                                int num_stages) {
  if constexpr (kWidth > Tile::kLeastWidth) {
    if (width < kWidth) {
      return multiply_stored<Element, Codes, Tile, kWidth / 2>(width, sums, loader, layout, rules,
                                                               stages, num_stages);
    }
  }
  multiply_stored_tile<Element, Codes, Tile, kWidth>(sums, loader, layout, rules, stages,
                                                     num_stages);
}

// What the scales of a matrix are multiplied by: its header.
__device__ __forceinline__ float multiplier_of(const void* matrix) {
  return *static_cast<const float*>(matrix);
}

template <typename Element, typename Codes, typename Tile, bool kGated>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    stored_expert_matmul_kernel(ExpertMatmulKernelArgs args, StoredLayouts stored,
                                int32_t tile_tokens, int32_t num_stages) {
  await_launches();
  SE_DYNAMIC_SHARED(stages);
  SE_SHARED(MatmulGroup, groups, 2);
  SE_SHARED(StoredLayout, layouts, 2);
  SE_SHARED(uint32_t, num_tiles, 2);
  SE_SHARED(int32_t, x_rows, Tile::kMaxTokens);
  SE_SHARED(int32_t, out_rows, Tile::kMaxTokens);
  SE_SHARED(float, weights, Tile::kMaxTokens);

  constexpr int kColumns = kGated ? Tile::kRows / 2 : Tile::kRows;
  // The groups are indexed by a number that only the tile knows: kernel parameters cannot be.
  if (threadIdx.x == 0) {
    groups[0] = args.groups[0];
    layouts[0] = stored.of[0];
    num_tiles[0] = args.num_groups > 0 ? group_tiles(groups[0], kColumns, tile_tokens) : 0;
  }
  if (threadIdx.x == 32) {
    groups[1] = args.groups[1];
    layouts[1] = stored.of[1];
    num_tiles[1] = args.num_groups > 1 ? group_tiles(groups[1], kColumns, tile_tokens) : 0;
  }
  __syncthreads();

  const WarpPlace warp = {static_cast<int>(threadIdx.x) / 32, 0, 0};
  float* const staged = reinterpret_cast<float*>(stages);
  for (uint32_t tile = blockIdx.x; tile < num_tiles[0] + num_tiles[1]; tile += gridDim.x) {
    const int second = tile >= num_tiles[0];
    const MatmulGroup& group = groups[second];
    const StoredLayout& layout = layouts[second];
    const TilePlace place =
        place_of_tile(group, second ? tile - num_tiles[0] : tile, kColumns, tile_tokens);
    const int width = stored_width<Tile>(place.num_tokens);
    find_rows(group, place, width * 8, Tile::kThreads, x_rows, out_rows, weights);
    StoredLoader<Tile> loader;
    loader.template start<kGated>(group, layout, place, x_rows, tile_tokens);
    StoredRules rules;
    rules.nibbles = NibbleRules::of<Element>(layout);
    rules.scales = ScaleRules::of(layout);
    rules.multipliers[1] = multiplier_of(group.up[place.expert]);
    rules.multipliers[0] = kGated ? multiplier_of(group.gate[place.expert]) : rules.multipliers[1];
    __syncthreads();

    float sums[1][Tile::kFragmentsN][4];
    multiply_stored<Element, Codes, Tile, Tile::kFragmentsN>(width, sums[0], loader, layout, rules,
                                                             stages, num_stages);
    // The stages are free: all warps have multiplied the last one.
    __syncthreads();
    stage_sums<Tile, kGated>(sums, warp, width, Tile::kRows, staged);
    __syncthreads();
    finish_outputs<Element, Tile, kGated>(args, group, place, {out_rows, weights}, 0,
                                          place.num_tokens, width, Tile::kRows, 0, staged);
    __syncthreads();
  }
}

}  // namespace sparse_experts::cuda
