// Tiles of a grouped matmul: how many a group has, and which expert, output columns and tokens tile
// number i stands for. Within an expert all token tiles of one block of columns follow each other, so
// that blocks which run at the same time read the same weights: once from memory, then from L2.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/expert_matmul.h"

namespace sparse_experts::cuda {

struct TilePlace {
  int32_t expert;
  int32_t num_tokens;    // up to tile_tokens, at least 1
  int32_t first_entry;   // of the sorted list
  int64_t first_column;  // of the outputs
};

__device__ __forceinline__ uint32_t column_tiles(const MatmulGroup& group, uint32_t tile_columns) {
  return (static_cast<uint32_t>(group.rows) + tile_columns - 1) / tile_columns;
}

__device__ __forceinline__ uint32_t group_tiles(const MatmulGroup& group, uint32_t tile_columns,
                                                uint32_t tile_tokens) {
  const uint32_t token_tiles =
      group.tiles != nullptr
          ? static_cast<uint32_t>(*group.num_tiles)
          : (static_cast<uint32_t>(group.num_rows) + tile_tokens - 1) / tile_tokens;
  return token_tiles * column_tiles(group, tile_columns);
}

__device__ __forceinline__ TilePlace place_of_tile(const MatmulGroup& group, uint32_t tile,
                                                   uint32_t tile_columns, uint32_t tile_tokens) {
  const uint32_t columns = column_tiles(group, tile_columns);
  // Tile `tile / columns` is not this one's number among the token tiles, but one of the same expert.
  const TileRecord record = group.tiles != nullptr
                                ? group.tiles[tile / columns]
                                : TileRecord{0, 0, 0, static_cast<int32_t>(group.num_rows)};
  const uint32_t num_entries = static_cast<uint32_t>(record.num_entries);
  const uint32_t token_tiles = (num_entries + tile_tokens - 1) / tile_tokens;
  const uint32_t local = tile - static_cast<uint32_t>(record.first_tile) * columns;
  const uint32_t column_tile = local / token_tiles;
  const uint32_t first_token = (local - column_tile * token_tiles) * tile_tokens;
  const uint32_t left = num_entries - first_token;
  TilePlace place;
  place.expert = record.expert;
  place.num_tokens = static_cast<int32_t>(left < tile_tokens ? left : tile_tokens);
  place.first_entry = record.first_entry + static_cast<int32_t>(first_token);
  place.first_column = int64_t{column_tile} * tile_columns;
  return place;
}

}  // namespace sparse_experts::cuda
