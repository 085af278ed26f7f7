// Stable counting sort of slots by expert: histogram, scan, ranks. Bitwise the same every run: no
// atomic decides an order. Nothing is read back to the host.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/launch_stream.h"
#include "cuda/ops/tile_record.h"

namespace sparse_experts::cuda {

constexpr int kMaxTileKinds = 2;

struct DispatchKernelArgs {
  const int32_t* topk_ids;     // [num_slots]; below 0 or >= num_experts: in no list
  const uint8_t* non_finite;   // [num_slots / top_k] or null: slots of a flagged row are in no list
  const void* const* present;  // [num_experts] or null: slots of a null entry are in no list
  int64_t num_slots;           // up to 2^31 - 1
  int64_t top_k;               // slot / top_k = row of non_finite
  int64_t num_experts;
  int32_t* expert_offsets;  // out [num_experts + 1]
  int32_t* sorted_slots;    // out [num_slots]; behind expert_offsets[num_experts]: -1
  // Token tiles of up to two sizes, for the matmuls that follow.
  int32_t tile_tokens[kMaxTileKinds];  // tokens of a tile; 0: no such table
  TileRecord* tiles[kMaxTileKinds];    // out [token_tiles_at_most(num_slots, num_experts, …)], of
                                       // which the first num_tiles[kind] are written
  int32_t* num_tiles;                  // out [kMaxTileKinds], where there is a table
  void* scratch;                       // dispatch_scratch_bytes
};
uint64_t dispatch_scratch_bytes(int64_t num_slots, int64_t num_experts);
cudaError_t launch_dispatch(const DispatchKernelArgs& args, LaunchStream stream);

}  // namespace sparse_experts::cuda
