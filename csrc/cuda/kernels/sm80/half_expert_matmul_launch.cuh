// Host side of the half-precision matmuls: picks the instance that a MatmulConfig names.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/sm80/half_expert_matmul.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {

template <typename Element, typename Tile>
cudaError_t prepare_half_tile(const DeviceLimits& limits) {
  // As much as any configuration of this device asks for. The limits, 48 KiB without asking and what a
  // block can have at most, are of static and dynamic memory together.
  const int64_t stages =
      int64_t{kMostStages} * Tile::stage_bytes(Tile::kMaxTokens, Tile::kMaxSplit);
  const auto most =
      static_cast<size_t>(std::min(stages + Tile::kStaticBytes, limits.shared_bytes_per_block));
  const cudaError_t error =
      allow_shared_bytes(half_expert_matmul_kernel<Element, Tile, false>, most);
  if (error != cudaSuccess) return error;
  return allow_shared_bytes(half_expert_matmul_kernel<Element, Tile, true>, most);
}

template <typename Element>
cudaError_t prepare_half_expert_matmul(const DeviceLimits& limits) {
  cudaError_t error = prepare_half_tile<Element, HalfDecodeTile>(limits);
  if (error == cudaSuccess) error = prepare_half_tile<Element, HalfSmallTile>(limits);
  if (error == cudaSuccess) error = prepare_half_tile<Element, HalfLargeTile>(limits);
  return error;
}

template <typename Element, typename Tile>
cudaError_t launch_half_tile(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                             LaunchStream stream) {
  int32_t log_split = 0;
  while (1 << log_split < config.split_k) ++log_split;
  const bool gated = args.groups[0].gate != nullptr;
  if (1 << log_split != config.split_k || config.split_k > Tile::kMaxSplit ||
      config.tile_tokens < Tile::kMinTokens || config.tile_tokens > Tile::kMaxTokens ||
      (config.tile_tokens & (config.tile_tokens - 1)) != 0 || config.threads != Tile::kThreads ||
      config.tile_rows != (Tile::kRows >> log_split >> (gated ? 1 : 0)) ||
      (config.stages != kFewStages && config.stages != kSomeStages &&
       config.stages != kMostStages) ||
      config.shared_bytes <
          int64_t{config.stages} * Tile::stage_bytes(config.tile_tokens, config.split_k)) {
    return cudaErrorInvalidValue;
  }
  const int64_t tiles = tiles_at_most(args, config);
  if (tiles > INT32_MAX) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<uint32_t>(tiles < config.grid ? tiles : config.grid));
  const size_t bytes = static_cast<size_t>(config.shared_bytes);
  if (gated) {
    return launch(half_expert_matmul_kernel<Element, Tile, true>, grid, dim3(Tile::kThreads), bytes,
                  stream, args, config.tile_tokens, log_split, config.stages);
  }
  return launch(half_expert_matmul_kernel<Element, Tile, false>, grid, dim3(Tile::kThreads), bytes,
                stream, args, config.tile_tokens, log_split, config.stages);
}

template <typename Element>
cudaError_t launch_half_expert_matmul(const ExpertMatmulKernelArgs& args,
                                      const MatmulConfig& config, LaunchStream stream) {
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
