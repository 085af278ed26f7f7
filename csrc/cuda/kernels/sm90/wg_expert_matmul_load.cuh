// The producer group: fills stages. Weights come as a box of the expert's tensor map, by hardware of
// their own; columns and rows beyond the matrix are zeros. Tokens are gathered in chunks of 16 bytes,
// swizzled by hand; tokens that the tile does not have are zeros.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/common/ptx90.cuh"
#include "cuda/kernels/any/expert_matmul_tiles.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul_ring.cuh"
#include "cuda/ops/weight_maps.h"

namespace sparse_experts::cuda {

// Rows of x of the tile's tokens; below 0: no such token. `thread` of the group.
template <typename Tile>
__device__ __forceinline__ void find_x_rows(const MatmulGroup& group, const TilePlace& place,
                                            int thread, int32_t* x_rows) {
  for (int token = thread; token < Tile::kTokens; token += Tile::kProducers) {
    const int32_t entry = place.first_entry + token;
    int32_t row = -1;
    if (token < place.num_tokens) {
      const int32_t slot = group.slots != nullptr ? group.slots[entry] : entry;
      row = group.x_index == RowIndex::kSorted  ? entry
            : group.x_index == RowIndex::kToken ? slot / static_cast<int32_t>(group.top_k)
                                                : slot;
    }
    x_rows[token] = row;
  }
}

// One tile. `thread` of the group; x_rows in shared memory.
template <typename Tile, bool kGated>
__device__ __forceinline__ void load_wg_tile(const MatmulGroup& group, const TilePlace& place,
                                             const int32_t* x_rows, int thread,
                                             WgRing<Tile>& ring) {
  constexpr int kChunks = Tile::kRowBytes / 16;
  constexpr int kRowStep = Tile::kProducers / kChunks;
  const int chunk = thread % kChunks;
  const int first_row = thread / kChunks;
  const int cols = static_cast<int>(group.cols);
  const auto* x = static_cast<const uint16_t*>(group.x);
  const void* map =
      static_cast<const unsigned char*>(group.weight_maps) + place.expert * kWeightMapBytes;
  const int32_t first_column = static_cast<int32_t>(place.first_column);
  // Rows kRowStep apart are swizzled alike: it is a multiple of 8.
  const uint32_t at =
      static_cast<uint32_t>(first_row * Tile::kRowBytes + (chunk ^ (first_row % 8)) * 16);
  if (thread == 0) ptx::acquire_tensor_map(map);
  for (int k = 0; k < cols; k += Tile::kBlockK) {
    ptx::mbarrier_wait(ring.empty(), ring.parity ^ 1);
    if (thread == 0) {
      ptx::mbarrier_arrive_expect_tx(ring.full(), Tile::kWeightBytes);
      if constexpr (kGated) {
        ptx::tma_load_4d(ring.weights(), map, ring.full(), k, 0, 0, first_column / kWgBoxRows);
      } else {
        ptx::tma_load_2d(ring.weights(), map, ring.full(), k, first_column);
      }
    }
    const int column = k + chunk * 8;
    const bool there = column < cols;
    const uint32_t to = ring.tokens() + at;
#pragma unroll 4
    for (int row = 0; row < Tile::kTokens; row += kRowStep) {
      const int32_t x_row = x_rows[first_row + row];
      const uint16_t* source = x;
      if (x_row >= 0 && there) source += x_row * group.x_stride + column;
      ptx::cp_async_16(to + static_cast<uint32_t>(row * Tile::kRowBytes), source,
                       x_row >= 0 && there ? 16u : 0u);
    }
    ptx::cp_async_mbarrier_arrive_noinc(ring.full());
    ring.advance();
  }
}

}  // namespace sparse_experts::cuda
