// What the variants of the expert matmul share when they cut a matmul into tiles.
#pragma once

#include <cstdint>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"

namespace sparse_experts::cuda {

// In how many parts (1, 2 … max_split) a call of few tokens sums over K, given the output columns of
// a tile without a split and the K of one of its steps. The number of tokens does not enter.
int32_t choose_split(const MatmulShape& shape, const DeviceLimits& limits, int64_t tile_columns,
                     int64_t block_k, int32_t max_split);

// Tiles of tile_tokens tokens that a call has at most in one group: an expert's last tile may be
// part full, and an expert without tokens has none.
inline int64_t token_tiles_at_most(int64_t num_rows, int64_t num_experts, int64_t tile_tokens) {
  const int64_t active = num_rows < num_experts ? num_rows : num_experts;
  return num_rows <= 0 ? 0 : active + (num_rows - active) / tile_tokens;
}

// "NAME 64x32x64, 4 stages, …"
void describe_tiles(const char* name, const MatmulConfig& config, char* text, uint64_t size);

}  // namespace sparse_experts::cuda
