// From global to shared memory: the rows of a tile, one pipeline stage (a range of K) at a time.
//
// A stage holds slices of kBlockK columns (one; split_k of them where the warps share K). A slice
// is a swizzled tile of weight rows; behind all of those lie the slices of token rows. Where a
// matrix allows it, chunks of 16 bytes are copied asynchronously; odd pointers and strides go
// through registers element by element into the same places. Columns beyond the matrix become
// zeros, so that nothing that lies behind a row ever meets a product.
//
// Nearly every stage of nearly every matrix is plain: aligned, and all of its columns and weight
// rows are there. Its copies ask nothing; the rest take the careful way, with a size of each. Which
// stages are plain is the same for all threads of a block, so that a loop can hold them alone.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/kernels/any/expert_matmul_tiles.cuh"
#include "cuda/kernels/sm80/half_expert_matmul_tile.cuh"
#include "cuda/kernels/sm80/swizzle.cuh"

namespace sparse_experts::cuda {

// Pointer and stride (in elements) of rows that 16-byte copies can read.
__device__ __forceinline__ bool rows_are_aligned(const void* data, int64_t stride) {
  return ((reinterpret_cast<uintptr_t>(data) | static_cast<uintptr_t>(stride * 2)) & 15) == 0;
}

// 8 elements, of which `count` (0 … 8) are there; `source` is a valid address in any case.
__device__ __forceinline__ void copy_chunk(unsigned char* to, uint32_t to_shared,
                                           const uint16_t* source, int count, bool aligned) {
  if (aligned) {
    ptx::cp_async_16(to_shared, source, static_cast<uint32_t>(2 * count));
    return;
  }
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = 2 * i < count ? source[2 * i] : 0u;
    const uint32_t high = 2 * i + 1 < count ? source[2 * i + 1] : 0u;
    words[i] = low | high << 16;
  }
  *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

// Loop-invariant source pointers, kept in shared memory: the accumulators take all registers.
struct StageSource {
  const uint16_t* x;
  int64_t x_stride;
  int64_t cols;
  int64_t weights_step;  // elements from one of a thread's even rows to the next
  int32_t columns;       // of the outputs that are there, of the tile's
  bool is_gated;
  bool weights_aligned;
  bool x_aligned;
};

// What a thread copies of every stage: the same chunk column of kCopies weight rows and of some
// token rows.
template <typename Tile>
struct StageLoader {
  static constexpr int kChunks = Tile::kChunks;
  static constexpr int kCopies = Tile::kRows * kChunks / Tile::kThreads;
  // Without a split a thread's rows are a multiple of 16 apart: all in the same matrix, at equal
  // distances. That saves registers where they are short.
  static constexpr bool kEvenRows = Tile::kMaxSplit == 1;
  static constexpr int kRowStep = Tile::kThreads / kChunks;  // without a split
  template <int kWidth>
  static constexpr int kTokenCopies =
      (kWidth * kChunks * Tile::kMaxSplit + Tile::kThreads - 1) / Tile::kThreads;
  static_assert(!kEvenRows || kRowStep % 16 == 0, "rows of one matrix, swizzled alike");

  const uint16_t* weights[kEvenRows ? 1 : kCopies];
  const StageSource* shared_source;  // shared, as x_rows
  // Rows of x, in chunks from its first; kNoToken: zeros from the start, and nothing is copied.
  static constexpr uint32_t kNoToken = UINT32_MAX;
  uint32_t tokens[kTokenCopies<Tile::kMaxTokens>];
  const int32_t* x_rows;  // shared: [tile_tokens], below 0: no such token
  int plain_steps;        // stages 0 … plain_steps - 1 are plain; the same in all threads

  int first_row;  // weight rows first_row + i * row_step; token rows likewise
  int row_step;   // kRowStep over the split
  int slice;      // of the stage
  int chunk;      // of the slice
  int tile_rows;  // weight rows of a slice
  int tile_tokens;
  int log_split;

  // The output column of a weight row, both counted from the tile's first.
  static __device__ __forceinline__ int column_of_row(bool is_gated, int row) {
    return is_gated ? row / 16 * 8 + row % 8 : row;
  }

  // Gated tiles hold 8 gate rows and 8 up rows in turn, so that one m16 fragment has both of an
  // output in the same thread.
  // One thread writes *stage_source: a barrier before anything else is called.
  template <bool kGated>
  __device__ __forceinline__ void start(const MatmulGroup& group, const TilePlace& place,
                                        const int32_t* rows_of_x, StageSource* stage_source,
                                        int log_split_k, int tokens_per_tile) {
    log_split = log_split_k;
    tile_rows = Tile::kRows >> log_split;
    tile_tokens = tokens_per_tile;
    const int chunks = kChunks << log_split;
    const int thread = static_cast<int>(threadIdx.x);
    first_row = thread / kChunks >> log_split;
    row_step = kRowStep >> log_split;
    slice = (thread & (chunks - 1)) / kChunks;
    chunk = thread % kChunks;

    shared_source = stage_source;
    x_rows = rows_of_x;
    const uint16_t* up = static_cast<const uint16_t*>(group.up[place.expert]);
    const uint16_t* gate = up;
    if constexpr (kGated) gate = static_cast<const uint16_t*>(group.gate[place.expert]);
    const int64_t columns_left = group.rows - place.first_column;
    // Even rows: the first one says where all are.
    weights[0] = kGated && first_row % 16 < 8 ? gate : up;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int row = first_row + i * row_step;
      const int column = column_of_row(kGated, row);
      const bool there = column < columns_left;
      if constexpr (kEvenRows) {
        if (i == 0 && there) weights[0] += (place.first_column + column) * group.weight_stride;
      } else {
        weights[i] = kGated && row % 16 < 8 ? gate : up;
        if (there) weights[i] += (place.first_column + column) * group.weight_stride;
      }
    }
    const bool weights_aligned =
        rows_are_aligned(up, group.weight_stride) && rows_are_aligned(gate, 0);
    const bool x_aligned = rows_are_aligned(group.x, group.x_stride);
    const int tile_columns = kGated ? tile_rows / 2 : tile_rows;
    const bool plain = weights_aligned && x_aligned && columns_left >= tile_columns &&
                       group.num_rows * (group.x_stride / 8) < kNoToken;
    plain_steps = plain ? static_cast<int>(group.cols) / (Tile::kBlockK << log_split) : 0;
    if (threadIdx.x == 0) {
      *stage_source = {static_cast<const uint16_t*>(group.x),
                       group.x_stride,
                       group.cols,
                       row_step / (kGated ? 2 : 1) * group.weight_stride,
                       static_cast<int32_t>(min(columns_left, int64_t{tile_columns})),
                       kGated,
                       weights_aligned,
                       x_aligned};
    }
  }

  // Once x_rows are written and before the first load; kWidth as there.
  template <int kWidth>
  __device__ __forceinline__ void find_tokens(unsigned char* stages, int stage_bytes,
                                              int num_stages) {
    const uint32_t tokens_at = tokens_in_stage();
#pragma unroll
    for (int i = 0; i < kTokenCopies<kWidth>; ++i) {
      const int row = first_row + i * row_step;
      const int32_t x_row = row < kWidth ? x_rows[row] : -1;
      tokens[i] = x_row < 0 ? kNoToken
                            : static_cast<uint32_t>(x_row) *
                                  static_cast<uint32_t>(shared_source->x_stride / 8);
      if (x_row >= 0 || row >= kWidth || plain_steps == 0) continue;
#pragma unroll 1
      for (int stage = 0; stage < num_stages; ++stage) {
        unsigned char* const to = stages + stage * stage_bytes + tokens_at + place_of_row(i);
        *reinterpret_cast<uint4*>(to) = make_uint4(0, 0, 0, 0);
      }
    }
  }

  __device__ __forceinline__ int cols() const { return static_cast<int>(shared_source->cols); }
  // Stages of K.
  __device__ __forceinline__ int num_steps() const {
    const int depth = Tile::kBlockK << log_split;
    return (cols() + depth - 1) / depth;
  }

  // Of this thread's slice.
  __device__ __forceinline__ uint32_t tokens_in_stage() const {
    return static_cast<uint32_t>((Tile::kRows + slice * tile_tokens) * kChunks * 16);
  }

  // Place of this thread's chunk of row i in a slice.
  __device__ __forceinline__ uint32_t place_of_row(int i) const {
    if constexpr (kEvenRows) {
      return swizzled<kChunks>(first_row, chunk) + i * kRowStep * Tile::kRowBytes;
    } else {
      return swizzled<kChunks>(first_row + i * row_step, chunk);
    }
  }

  // Of this thread's chunk of stage `step`.
  __device__ __forceinline__ int column_of(int step) const {
    return ((step << log_split) + slice) * Tile::kBlockK + chunk * 8;
  }
  __device__ __forceinline__ uint32_t weights_in_stage() const {
    return static_cast<uint32_t>(slice * tile_rows * kChunks * 16);
  }

  // A plain stage of K into the stage buffer at `to_shared`; kWidth: token rows of the tile.
  template <int kWidth>
  __device__ __forceinline__ void load_plain(uint32_t to_shared, int step_of_k) const {
    const int k = column_of(step_of_k);
    const uint32_t weights_to = to_shared + weights_in_stage();
    const uint32_t tokens_to = to_shared + tokens_in_stage();
    const uint16_t* source = weights[0] + k;
    const int64_t step = shared_source->weights_step;
    const uint16_t* const x = shared_source->x + k;
    constexpr int kTokens = kTokenCopies<kWidth>;
    // In turns: the compiler then finds products to put between any two copies.
#pragma unroll
    for (int i = 0; i < (kCopies > kTokens ? kCopies : kTokens); ++i) {
      if (i < kCopies) {
        if constexpr (!kEvenRows) source = weights[i] + k;
        if (kEvenRows && i > 0) source += step;
        ptx::cp_async_16(weights_to + place_of_row(i), source);
      }
      if (i < kTokens && tokens[i] != kNoToken) {
        ptx::cp_async_16(tokens_to + place_of_row(i), x + static_cast<uint64_t>(tokens[i]) * 8);
      }
    }
  }

  // Any stage; `to` and `to_shared` are one address.
  template <int kWidth>
  __device__ __forceinline__ void load_carefully(unsigned char* to, uint32_t to_shared,
                                                 int step_of_k) const {
    const int k = column_of(step_of_k);
    const uint32_t weights_at = weights_in_stage();
    const uint32_t tokens_at = tokens_in_stage();
    const int left = cols() - k;
    const int count = left < 0 ? 0 : left < 8 ? left : 8;
    const int column = left > 0 ? k : 0;
    const uint16_t* source = weights[0] + column;
    const int64_t step = shared_source->weights_step;
#pragma unroll(kEvenRows ? 1 : kCopies)
    for (int i = 0; i < kCopies; ++i) {
      const uint32_t at = weights_at + place_of_row(i);
      const int row = first_row + i * row_step;
      const bool there = column_of_row(shared_source->is_gated, row) < shared_source->columns;
      if constexpr (!kEvenRows) source = weights[i] + column;
      if (kEvenRows && i > 0 && there) source += step;
      copy_chunk(to + at, to_shared + at, source, there ? count : 0,
                 shared_source->weights_aligned);
    }
#pragma unroll 1
    for (int i = 0; i < kTokenCopies<kWidth>; ++i) {
      const int row = first_row + i * row_step;
      if (row < kWidth) {
        const uint32_t at = tokens_at + place_of_row(i);
        const int32_t x_row = x_rows[row];
        source = shared_source->x;
        if (x_row >= 0) source += x_row * shared_source->x_stride + column;
        copy_chunk(to + at, to_shared + at, source, x_row < 0 ? 0 : count,
                   shared_source->x_aligned);
      }
    }
  }
};

}  // namespace sparse_experts::cuda
