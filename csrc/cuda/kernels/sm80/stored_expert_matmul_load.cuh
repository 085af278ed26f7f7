// From global to shared memory: a stage is a chunk of 256 columns.
//
// Codes and scales of a unit's chunk are one run of bytes, copied by half a warp. A warp's 16 rows are two
// units, which no other warp reads: of a gated matmul 8 gate rows and the 8 up rows of the same outputs,
// so that one fragment has both of an output in the same thread. Units behind the matrix are read as
// its last one, whose products nobody stores.
//
// Tokens lie behind the units, 64 columns of all of them after each other, in swizzled rows of 128 bytes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/kernels/any/expert_matmul_tiles.cuh"
#include "cuda/kernels/sm80/half_expert_matmul_load.cuh"
#include "cuda/kernels/sm80/stored_expert_matmul_tile.cuh"
#include "cuda/kernels/sm80/swizzle.cuh"

namespace sparse_experts::cuda {

constexpr int kPieceRowBytes = kPieceCols * 2;  // of a token

// What a thread copies of every stage.
template <typename Tile>
struct StoredLoader {
  static constexpr int kThreadsPerUnit = Tile::kThreads / Tile::kUnits;
  static constexpr int kTokenChunks = kChunkCols / 8;  // of 16 bytes, in a stage
  static_assert(kThreadsPerUnit == 16, "a warp copies the two units that it multiplies");
  static_assert(Tile::kThreads % kTokenChunks == 0, "a thread's tokens have one column");

  const unsigned char* unit;  // of the matrix
  const uint16_t* x;
  int64_t x_stride;
  const int32_t* x_rows;  // shared: below 0: no such token
  int cols;
  int tile_tokens;
  bool x_aligned;

  template <bool kGated>
  __device__ __forceinline__ void start(const MatmulGroup& group, const StoredLayout& layout,
                                        const TilePlace& place, const int32_t* rows_of_x,
                                        int tokens_per_tile) {
    const int slot = static_cast<int>(threadIdx.x) / kThreadsPerUnit;
    const void* matrix = group.up[place.expert];
    if constexpr (kGated) {
      if (slot % 2 == 0) matrix = group.gate[place.expert];
    }
    const int64_t wanted = place.first_column / kUnitRows + (kGated ? slot / 2 : slot);
    const int64_t last = (group.rows - 1) / kUnitRows;
    unit = static_cast<const unsigned char*>(matrix) + kHeaderBytes +
           (wanted < last ? wanted : last) * layout.unit_bytes;
    x = static_cast<const uint16_t*>(group.x);
    x_stride = group.x_stride;
    x_rows = rows_of_x;
    cols = static_cast<int>(group.cols);
    tile_tokens = tokens_per_tile;
    x_aligned = rows_are_aligned(group.x, group.x_stride);
  }

  // Chunk `chunk` of `num_tokens` tokens into the stage at `to`.
  __device__ __forceinline__ void load(const StoredLayout& layout, int chunk, int num_tokens,
                                       unsigned char* to) const {
    const int thread = static_cast<int>(threadIdx.x);
    const uint32_t to_shared = ptx::smem_u32(to);
    const bool is_last = chunk + 1 == layout.num_chunks;
    const int bytes = is_last ? layout.last.bytes : layout.whole.bytes;
    const unsigned char* const from = unit + static_cast<int64_t>(chunk) * layout.whole.bytes;
    const uint32_t unit_at = static_cast<uint32_t>(thread / kThreadsPerUnit * layout.largest_chunk);
    for (int at = thread % kThreadsPerUnit * 16; at < bytes; at += kThreadsPerUnit * 16) {
      ptx::cp_async_16(to_shared + unit_at + static_cast<uint32_t>(at), from + at);
    }
    const int part = thread % kTokenChunks;
    const int stage_cols = is_last ? layout.last_cols : kChunkCols;
    if (part * 8 >= stage_cols) return;
    const int column = chunk * kChunkCols + part * 8;
    const int left = cols - column;
    const int count = left < 0 ? 0 : left < 8 ? left : 8;
    const uint32_t piece_at = static_cast<uint32_t>(Tile::kUnits * layout.largest_chunk +
                                                    part / 8 * tile_tokens * kPieceRowBytes);
    for (int token = thread / kTokenChunks; token < num_tokens;
         token += Tile::kThreads / kTokenChunks) {
      const uint32_t at =
          piece_at + swizzled<8>(static_cast<uint32_t>(token), static_cast<uint32_t>(part % 8));
      const int32_t row = x_rows[token];
      const bool there = row >= 0 && count > 0;
      const uint16_t* const source = there ? x + row * x_stride + column : x;
      copy_chunk(to + at, to_shared + at, source, there ? count : 0, x_aligned);
    }
  }
};

}  // namespace sparse_experts::cuda
