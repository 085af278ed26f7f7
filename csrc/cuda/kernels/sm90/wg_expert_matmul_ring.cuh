// The ring of stages between the producer group and the consumer groups.
//   full[s]   the weights' bytes, an arrival of the thread that asks for them, and one of every
//             producer thread when its tokens' chunks have landed
//   empty[s]  one arrival of each consumer group
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/ptx90.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul_tile.cuh"

namespace sparse_experts::cuda {

template <typename Tile>
struct WgRing {
  uint32_t stages;    // shared addresses
  uint32_t barriers;  // full[kStages], empty[kStages]
  uint32_t stage = 0;
  uint32_t parity = 0;  // of the phase that the stage's full barrier is in

  __device__ __forceinline__ WgRing(uint32_t first_stage, uint32_t first_barrier)
      : stages(first_stage), barriers(first_barrier) {}

  __device__ __forceinline__ uint32_t full() const { return barriers + stage * 8; }
  __device__ __forceinline__ uint32_t empty() const {
    return barriers + (Tile::kStages + stage) * 8;
  }
  __device__ __forceinline__ uint32_t weights() const { return stages + stage * Tile::kStageBytes; }
  __device__ __forceinline__ uint32_t tokens() const { return weights() + Tile::kWeightBytes; }
  __device__ __forceinline__ void advance() {
    if (++stage == Tile::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }

  // By one thread, before a barrier of the block.
  __device__ __forceinline__ void init() const {
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::mbarrier_init(barriers + i * 8, 1 + Tile::kProducers);
      ptx::mbarrier_init(barriers + (Tile::kStages + i) * 8, 2);
    }
    ptx::fence_mbarrier_init();
  }
};

}  // namespace sparse_experts::cuda
