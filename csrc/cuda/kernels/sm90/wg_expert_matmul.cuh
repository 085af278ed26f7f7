// Grouped matmul on warp-group instructions (wgmma): the same products in the same order as on
// mma.sync, for many tokens per expert.
//
//   1. a persistent block takes every gridDim-th tile of both groups (expert_matmul_tiles.cuh)
//   2. the producer group fills a ring of stages (wg_expert_matmul_load.cuh), as far ahead as it can,
//      into the next tile as well
//   3. two consumer groups multiply (wg_expert_matmul_mma.cuh), and finish the outputs a strip of
//      tokens at a time (sm80's epilogue)
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/expert_matmul_tiles.cuh"
#include "cuda/kernels/sm80/half_expert_matmul_epilogue.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul_load.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul_mma.cuh"

namespace sparse_experts::cuda {

// Named barriers; 0 is that of the block.
constexpr uint32_t kProducerBarrier = 1;
constexpr uint32_t kConsumerBarrier = 2;

__device__ __forceinline__ void find_out_rows(const MatmulGroup& group, const TilePlace& place,
                                              int thread, int num_threads, int32_t* out_rows,
                                              float* weights) {
  for (int token = thread; token < place.num_tokens; token += num_threads) {
    const int32_t entry = place.first_entry + token;
    const int32_t slot = group.slots != nullptr ? group.slots[entry] : entry;
    out_rows[token] = group.out_index == RowIndex::kSorted ? entry : slot;
    weights[token] = group.slot_weights != nullptr ? group.slot_weights[slot] : 1.0f;
  }
}

// A strip's sums to shared memory: a token's outputs side by side, gate first, then up. The second
// half of a fragment's rows are outputs 8 further, or the up sums of the same outputs.
template <typename Tile, bool kGated>
__device__ __forceinline__ void stage_wg_sums(const float* sums, float* staged) {
  constexpr int kStride = Tile::kRows + kSumsPadding;
  constexpr int kSecond = kGated ? Tile::kRows / 2 : 8;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const int column = warp * (kGated ? 8 : 16) + lane / 4;
#pragma unroll
  for (int n = 0; n < Tile::kStripTokens / 8; ++n) {
    float* token = staged + (n * 8 + lane % 4 * 2) * kStride + column;
    token[0] = sums[n * 4];
    token[kStride] = sums[n * 4 + 1];
    token[kSecond] = sums[n * 4 + 2];
    token[kStride + kSecond] = sums[n * 4 + 3];
  }
}

// A tile of the consumers.
template <typename Element, typename Tile, bool kGated>
__device__ __forceinline__ void compute_wg_tile(const ExpertMatmulKernelArgs& args,
                                                const MatmulGroup& group, const TilePlace& place,
                                                const OutputRows& outputs, WgRing<Tile>& ring,
                                                float* staged) {
  float sums[Tile::kTokens / 2];
  const int thread = static_cast<int>(threadIdx.x);
  multiply_wg_tile<Element, Tile>(sums, static_cast<int>(group.cols), thread / 128,
                                  thread % 128 == 0, ring);
  // One copy of the outputs' code for all strips: only which registers a strip's sums are in must be
  // known to the compiler.
#pragma unroll 1
  for (int first = 0; first < place.num_tokens; first += Tile::kStripTokens) {
    ptx::named_barrier_sync(kConsumerBarrier, Tile::kConsumers);
#pragma unroll
    for (int strip = 0; strip < Tile::kTokens / Tile::kStripTokens; ++strip) {
      if (first == strip * Tile::kStripTokens)
        stage_wg_sums<Tile, kGated>(sums + strip * (Tile::kStripTokens / 2), staged);
    }
    ptx::named_barrier_sync(kConsumerBarrier, Tile::kConsumers);
    const int left = place.num_tokens - first;
    const int count = left < Tile::kStripTokens ? left : Tile::kStripTokens;
    finish_outputs<Element, Tile, kGated>(args, group, place, outputs, first, count,
                                          Tile::kStripTokens / 8, Tile::kRows, 0, staged);
  }
}

template <typename Element, typename Tile, bool kGated>
__global__ void __launch_bounds__(Tile::kBlockThreads, 1)
    wg_expert_matmul_kernel(ExpertMatmulKernelArgs args) {
  await_launches();
  SE_DYNAMIC_SHARED(shared);
  SE_SHARED(MatmulGroup, groups, 2);
  SE_SHARED(uint32_t, num_tiles, 2);
  SE_SHARED(int32_t, x_rows, Tile::kTokens);
  SE_SHARED(int32_t, out_rows, Tile::kTokens);
  SE_SHARED(float, weights, Tile::kTokens);
  SE_SHARED(uint64_t, barriers, 2 * Tile::kStages);

  constexpr int kColumns = kGated ? Tile::kRows / 2 : Tile::kRows;
  const int thread = static_cast<int>(threadIdx.x);
  const uint32_t start = ptx::smem_u32(shared);
  const uint32_t padding = (Tile::kAlignment - start % Tile::kAlignment) % Tile::kAlignment;
  WgRing<Tile> ring(start + padding, ptx::smem_u32(barriers));
  if (thread == 0) {
    groups[0] = args.groups[0];
    num_tiles[0] = args.num_groups > 0 ? group_tiles(groups[0], kColumns, Tile::kTokens) : 0;
  }
  if (thread == 32) {
    groups[1] = args.groups[1];
    num_tiles[1] = args.num_groups > 1 ? group_tiles(groups[1], kColumns, Tile::kTokens) : 0;
  }
  if (thread == 64) ring.init();
  __syncthreads();

  if (thread >= Tile::kConsumers) {
    ptx::set_max_registers_dec<kWgProducerRegisters>();
    const int own = thread - Tile::kConsumers;
    for (uint32_t tile = blockIdx.x; tile < num_tiles[0] + num_tiles[1]; tile += gridDim.x) {
      const int second = tile >= num_tiles[0];
      const MatmulGroup& group = groups[second];
      const TilePlace place =
          place_of_tile(group, second ? tile - num_tiles[0] : tile, kColumns, Tile::kTokens);
      ptx::named_barrier_sync(kProducerBarrier, Tile::kProducers);
      find_x_rows<Tile>(group, place, own, x_rows);
      ptx::named_barrier_sync(kProducerBarrier, Tile::kProducers);
      load_wg_tile<Tile, kGated>(group, place, x_rows, own, ring);
    }
    // No thread ends before its copies have landed: each stage is free again.
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::mbarrier_wait(ring.empty(), ring.parity ^ 1);
      ring.advance();
    }
    return;
  }
  ptx::set_max_registers_inc<kWgConsumerRegisters>();
  auto* staged = reinterpret_cast<float*>(shared + padding + Tile::kStages * Tile::kStageBytes);
  for (uint32_t tile = blockIdx.x; tile < num_tiles[0] + num_tiles[1]; tile += gridDim.x) {
    const int second = tile >= num_tiles[0];
    const MatmulGroup& group = groups[second];
    const TilePlace place =
        place_of_tile(group, second ? tile - num_tiles[0] : tile, kColumns, Tile::kTokens);
    ptx::named_barrier_sync(kConsumerBarrier, Tile::kConsumers);
    find_out_rows(group, place, thread, Tile::kConsumers, out_rows, weights);
    compute_wg_tile<Element, Tile, kGated>(args, group, place, {out_rows, weights}, ring, staged);
  }
}

}  // namespace sparse_experts::cuda
