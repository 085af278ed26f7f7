// Host side of the warp-group matmuls: picks the instance that a MatmulConfig names.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/sm90/wg_expert_matmul.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {

template <typename Element, int kTokens>
cudaError_t prepare_wg_tile() {
  using Tile = WgTile<kTokens>;
  const cudaError_t error =
      allow_shared_bytes(wg_expert_matmul_kernel<Element, Tile, false>, Tile::kSharedBytes);
  if (error != cudaSuccess) return error;
  return allow_shared_bytes(wg_expert_matmul_kernel<Element, Tile, true>, Tile::kSharedBytes);
}

template <typename Element>
cudaError_t prepare_wg_expert_matmul() {
  cudaError_t error = prepare_wg_tile<Element, 64>();
  if (error == cudaSuccess) error = prepare_wg_tile<Element, 128>();
  if (error == cudaSuccess) error = prepare_wg_tile<Element, 192>();
  if (error == cudaSuccess) error = prepare_wg_tile<Element, 256>();
  return error;
}

// What the kernels' copies demand, whatever chose them.
inline bool is_bulk_ready(const MatmulGroup& group) {
  return group.weight_maps != nullptr && group.cols % 8 == 0 &&
         (reinterpret_cast<uintptr_t>(group.x) | static_cast<uintptr_t>(group.x_stride) * 2) % 16 ==
             0;
}

template <typename Element, int kTokens>
cudaError_t launch_wg_tile(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                           LaunchStream stream) {
  using Tile = WgTile<kTokens>;
  const bool gated = args.groups[0].gate != nullptr;
  if (config.tile_tokens != kTokens || config.threads != Tile::kBlockThreads ||
      config.split_k != 1 || config.stages != Tile::kStages || config.grid < 1 ||
      config.tile_rows != (gated ? Tile::kRows / 2 : Tile::kRows) ||
      config.shared_bytes < Tile::kSharedBytes) {
    return cudaErrorInvalidValue;
  }
  for (int32_t i = 0; i < args.num_groups; ++i) {
    if (!is_bulk_ready(args.groups[i])) return cudaErrorInvalidValue;
  }
  const int64_t tiles = tiles_at_most(args, config);
  if (tiles > INT32_MAX) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<uint32_t>(std::min<int64_t>(tiles, config.grid)));
  const auto bytes = static_cast<size_t>(config.shared_bytes);
  if (gated) {
    return launch(wg_expert_matmul_kernel<Element, Tile, true>, grid, dim3(Tile::kBlockThreads),
                  bytes, stream, args);
  }
  return launch(wg_expert_matmul_kernel<Element, Tile, false>, grid, dim3(Tile::kBlockThreads),
                bytes, stream, args);
}

template <typename Element>
cudaError_t launch_wg_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                    LaunchStream stream) {
  switch (config.kernel) {
    case 64:
      return launch_wg_tile<Element, 64>(args, config, stream);
    case 128:
      return launch_wg_tile<Element, 128>(args, config, stream);
    case 192:
      return launch_wg_tile<Element, 192>(args, config, stream);
    case 256:
      return launch_wg_tile<Element, 256>(args, config, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace sparse_experts::cuda
