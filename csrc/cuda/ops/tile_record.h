// The token tiles of a call, as dispatch writes them down and the matmuls read them: a block finds
// all that it has to know of its tile in one read of 16 bytes.
#pragma once

#include <cstdint>

namespace sparse_experts::cuda {

// One record for each token tile; experts in rising order, so that tile number i of the call belongs
// to the expert of record i. An expert's records are equal.
struct alignas(16) TileRecord {
  int32_t expert;
  int32_t first_tile;   // of the expert
  int32_t first_entry;  // of the expert, in the sorted list
  int32_t num_entries;  // of the expert, at least 1
};

// Tensor cores take 8 tokens at a time: no matmul has smaller tiles.
constexpr int64_t kLeastTileTokens = 8;

// Tiles of tile_tokens tokens that a call has at most in one group: an expert's last tile may be
// part full, and an expert without tokens has none.
inline int64_t token_tiles_at_most(int64_t num_rows, int64_t num_experts, int64_t tile_tokens) {
  const int64_t active = num_rows < num_experts ? num_rows : num_experts;
  return num_rows <= 0 || tile_tokens <= 0 ? 0 : active + (num_rows - active) / tile_tokens;
}

}  // namespace sparse_experts::cuda
