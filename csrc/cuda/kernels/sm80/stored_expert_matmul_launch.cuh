// Host side of the matmuls by stored codes: picks the instance that a MatmulConfig names.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/sm80/stored_expert_matmul.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {

template <typename Element, typename Codes, typename Tile>
cudaError_t prepare_stored_tile(const DeviceLimits& limits) {
  // What a configuration may ask for depends on the format: as much as there is.
  const auto most = static_cast<size_t>(limits.shared_bytes_per_block - Tile::kStaticBytes);
  const cudaError_t error =
      allow_shared_bytes(stored_expert_matmul_kernel<Element, Codes, Tile, false>, most);
  if (error != cudaSuccess) return error;
  return allow_shared_bytes(stored_expert_matmul_kernel<Element, Codes, Tile, true>, most);
}

template <typename Element, typename Codes>
cudaError_t prepare_stored_expert_matmul(const DeviceLimits& limits) {
  const cudaError_t error = prepare_stored_tile<Element, Codes, StoredDecodeTile>(limits);
  return error != cudaSuccess ? error : prepare_stored_tile<Element, Codes, StoredWideTile>(limits);
}

template <typename Element, typename Codes, typename Tile>
cudaError_t launch_stored_tile(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                               LaunchStream stream) {
  const bool gated = args.groups[0].gate != nullptr;
  StoredLayouts layouts = {};
  int32_t largest_chunk = 0;
  for (int32_t i = 0; i < args.num_groups; ++i) {
    const MatmulGroup& group = args.groups[i];
    layouts.of[i] = stored_layout(group.rows, group.cols, *args.stored[i]);
    largest_chunk = std::max(largest_chunk, layouts.of[i].largest_chunk);
  }
  if (config.tile_tokens < Tile::kLeastWidth * 8 || config.tile_tokens > Tile::kMaxTokens ||
      (config.tile_tokens & (config.tile_tokens - 1)) != 0 || config.threads != Tile::kThreads ||
      config.tile_rows != (gated ? Tile::kRows / 2 : Tile::kRows) || config.split_k != 1 ||
      config.stages < kLeastStoredStages || config.stages > kMostStoredStages ||
      config.shared_bytes <
          int64_t{config.stages} * Tile::stage_bytes(largest_chunk, config.tile_tokens)) {
    return cudaErrorInvalidValue;
  }
  const int64_t tiles = tiles_at_most(args, config);
  if (tiles > INT32_MAX) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<uint32_t>(tiles < config.grid ? tiles : config.grid));
  const size_t bytes = static_cast<size_t>(config.shared_bytes);
  if (gated) {
    return launch(stored_expert_matmul_kernel<Element, Codes, Tile, true>, grid,
                  dim3(Tile::kThreads), bytes, stream, args, layouts, config.tile_tokens,
                  config.stages);
  }
  return launch(stored_expert_matmul_kernel<Element, Codes, Tile, false>, grid,
                dim3(Tile::kThreads), bytes, stream, args, layouts, config.tile_tokens,
                config.stages);
}

template <typename Element, typename Codes>
cudaError_t launch_stored_expert_matmul(const ExpertMatmulKernelArgs& args,
                                        const MatmulConfig& config, LaunchStream stream) {
  switch (config.kernel) {
    case kStoredDecode:
      return launch_stored_tile<Element, Codes, StoredDecodeTile>(args, config, stream);
    case kStoredWide:
      return launch_stored_tile<Element, Codes, StoredWideTile>(args, config, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace sparse_experts::cuda
