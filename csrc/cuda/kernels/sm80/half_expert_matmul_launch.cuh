// Host side of the half-precision matmuls: picks the instance that a MatmulConfig names.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/sm80/half_expert_matmul.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {

template <typename Element, typename Tile>
cudaError_t prepare_half_tile() {
  // The limit of 48 KiB without asking is one of static and dynamic memory together.
  const size_t most = static_cast<size_t>(kHalfStaticBytes) +
                      Tile::kStages * Tile::stage_bytes(Tile::kMaxTokens, Tile::kMaxSplit);
  const cudaError_t error =
      allow_shared_bytes(half_expert_matmul_kernel<Element, Tile, false>, most);
  if (error != cudaSuccess) return error;
  return allow_shared_bytes(half_expert_matmul_kernel<Element, Tile, true>, most);
}

template <typename Element>
cudaError_t prepare_half_expert_matmul() {
  cudaError_t error = prepare_half_tile<Element, HalfDecodeTile>();
  if (error == cudaSuccess) error = prepare_half_tile<Element, HalfSmallTile>();
  if (error == cudaSuccess) error = prepare_half_tile<Element, HalfLargeTile>();
  return error;
}

template <typename Element, typename Tile>
cudaError_t launch_half_tile(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                             cudaStream_t stream) {
  int32_t log_split = 0;
  while (1 << log_split < config.split_k) ++log_split;
  const bool gated = args.groups[0].gate != nullptr;
  if (1 << log_split != config.split_k || config.split_k > Tile::kMaxSplit ||
      config.tile_tokens < Tile::kMinTokens || config.tile_tokens > Tile::kMaxTokens ||
      (config.tile_tokens & (config.tile_tokens - 1)) != 0 || config.threads != Tile::kThreads ||
      config.tile_rows != (Tile::kRows >> log_split >> (gated ? 1 : 0)) ||
      config.shared_bytes < Tile::kStages * Tile::stage_bytes(config.tile_tokens, config.split_k)) {
    return cudaErrorInvalidValue;
  }
  const int64_t tiles = tiles_at_most(args, config);
  if (tiles > INT32_MAX) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<uint32_t>(tiles < config.grid ? tiles : config.grid));
  const size_t bytes = static_cast<size_t>(config.shared_bytes);
  if (gated) {
    return launch(half_expert_matmul_kernel<Element, Tile, true>, grid, dim3(Tile::kThreads), bytes,
                  stream, args, config.tile_tokens, log_split);
  }
  return launch(half_expert_matmul_kernel<Element, Tile, false>, grid, dim3(Tile::kThreads), bytes,
                stream, args, config.tile_tokens, log_split);
}

template <typename Element>
cudaError_t launch_half_expert_matmul(const ExpertMatmulKernelArgs& args,
                                      const MatmulConfig& config, cudaStream_t stream) {
  switch (config.kernel) {
    case kHalfDecode:
      return launch_half_tile<Element, HalfDecodeTile>(args, config, stream);
    case kHalfSmall:
      return launch_half_tile<Element, HalfSmallTile>(args, config, stream);
    case kHalfLarge:
      return launch_half_tile<Element, HalfLargeTile>(args, config, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace sparse_experts::cuda
