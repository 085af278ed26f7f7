// Tiles of a grouped matmul: how many a group has, and which expert, output columns and tokens tile
// number i stands for. tile_offsets is the prefix sum of token tiles over the experts. Within an
// expert all token tiles of one block of columns follow each other, so that blocks which run at the
// same time read the same weights: once from memory, then from L2.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/expert_matmul.h"

namespace sparse_experts::cuda {

struct TilePlace {
  int32_t expert;
  int32_t num_tokens;    // up to tile_tokens, at least 1
  int64_t first_entry;   // of the sorted list
  int64_t first_column;  // of the outputs
};

// The last expert with offsets[expert] <= tile, which is the one that has it: 32 probes a round, by
// all lanes of a warp, same result in all of them.
__device__ __forceinline__ int32_t expert_of_tile(const int32_t* offsets, int32_t num_experts,
                                                  int64_t tile) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) & 31;
  int32_t first = 0;
  int32_t count = num_experts;
  while (count > 1) {
    const int32_t step = (count + 31) / 32;
    const int32_t probe = (lane + 1) * step;
    const bool passed = probe < count && offsets[first + probe] <= tile;
    const int32_t steps = __popc(__ballot_sync(0xffffffffu, passed));
    first += steps * step;
    count = count - steps * step < step ? count - steps * step : step;
  }
  return first;
}

__device__ __forceinline__ int64_t column_tiles(const MatmulGroup& group, int32_t tile_columns) {
  return (group.rows + tile_columns - 1) / tile_columns;
}

__device__ __forceinline__ int64_t group_tiles(const MatmulGroup& group, int32_t tile_columns,
                                               int32_t tile_tokens) {
  const int64_t token_tiles = group.tile_offsets != nullptr
                                  ? group.tile_offsets[group.num_experts]
                                  : (group.num_rows + tile_tokens - 1) / tile_tokens;
  return token_tiles * column_tiles(group, tile_columns);
}

// For all lanes of a warp at once.
__device__ __forceinline__ TilePlace place_of_tile(const MatmulGroup& group, int64_t tile,
                                                   int32_t tile_columns, int32_t tile_tokens) {
  const int64_t columns = column_tiles(group, tile_columns);
  TilePlace place;
  place.expert = 0;
  int64_t expert_tile = 0;
  int64_t first_entry = 0;
  int64_t num_entries = group.num_rows;
  int64_t token_tiles = (num_entries + tile_tokens - 1) / tile_tokens;
  if (group.tile_offsets != nullptr) {
    place.expert = expert_of_tile(group.tile_offsets, group.num_experts, tile / columns);
    expert_tile = group.tile_offsets[place.expert];
    token_tiles = group.tile_offsets[place.expert + 1] - expert_tile;
    first_entry = group.expert_offsets[place.expert];
    num_entries = group.expert_offsets[place.expert + 1] - first_entry;
  }
  const int64_t local = tile - expert_tile * columns;
  const int64_t column_tile = local / token_tiles;
  const int64_t first_token = (local - column_tile * token_tiles) * tile_tokens;
  const int64_t left = num_entries - first_token;
  place.num_tokens = static_cast<int32_t>(left < tile_tokens ? left : tile_tokens);
  place.first_entry = first_entry + first_token;
  place.first_column = column_tile * tile_columns;
  return place;
}

}  // namespace sparse_experts::cuda
