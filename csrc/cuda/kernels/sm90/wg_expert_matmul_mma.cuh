// The consumer groups: products of a tile, K in rising steps of 16 into one accumulator, as on
// mma.sync.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/num.cuh"
#include "cuda/common/ptx90.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul_ring.cuh"

namespace sparse_experts::cuda {

template <typename Element, int kTokens>
__device__ __forceinline__ void multiply_k16(float (&sums)[kTokens / 2], uint64_t rows,
                                             uint64_t tokens, bool adds) {
  if constexpr (DtypeOf<Element>::value == SE_BF16) {
    ptx::wgmma_m64k16_bf16<kTokens>(sums, rows, tokens, adds);
  } else {
    ptx::wgmma_m64k16_f16<kTokens>(sums, rows, tokens, adds);
  }
}

// Rows of 128 swizzled bytes, groups of 8 rows follow each other: the instruction's description of
// an operand. Plus 2 is 32 bytes, a k16 step.
template <typename Tile>
__device__ __forceinline__ uint64_t wg_operand(uint32_t shared) {
  constexpr uint64_t kGroupStride = 8 * Tile::kRowBytes / 16;
  constexpr uint64_t kSwizzle128 = 1;
  return static_cast<uint64_t>(shared >> 4) | kGroupStride << 32 | kSwizzle128 << 62;
}

// `group`: which half of the tile's rows. One stage's products are under way while the next stage is
// waited for; then the former is free. `signals`: one thread of the group.
template <typename Element, typename Tile>
__device__ __forceinline__ void multiply_wg_tile(float (&sums)[Tile::kTokens / 2], int cols,
                                                 int group, bool signals, WgRing<Tile>& ring) {
  uint32_t done = 0;  // the empty barrier of the stage before
  for (int k = 0; k < cols; k += Tile::kBlockK) {
    ptx::mbarrier_wait(ring.full(), ring.parity);
    // The tokens were written by cp.async: an ordinary write, whatever landed it.
    ptx::fence_proxy_async();
    const uint64_t rows =
        wg_operand<Tile>(ring.weights() + static_cast<uint32_t>(group * Tile::kWeightBytes / 2));
    const uint64_t tokens = wg_operand<Tile>(ring.tokens());
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < Tile::kBlockK / 16; ++step) {
      multiply_k16<Element, Tile::kTokens>(sums, rows + 2 * step, tokens + 2 * step,
                                           k > 0 || step > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (k > 0 && signals) ptx::mbarrier_arrive(done);
    done = ring.empty();
    ring.advance();
  }
  ptx::wgmma_wait<0>();
  if (signals) ptx::mbarrier_arrive(done);
}

}  // namespace sparse_experts::cuda
