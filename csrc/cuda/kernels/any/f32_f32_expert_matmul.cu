// The f32 matmul's instantiations and their launch.
#include <algorithm>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/f32_expert_matmul.cuh"
#include "cuda/kernels/any/f32_expert_matmul.h"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {
namespace {

template <typename Tile>
cudaError_t launch_tiles(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                         LaunchStream stream) {
  const int64_t tiles = tiles_at_most(args, config);
  if (tiles > INT32_MAX ||
      config.tile_rows != (args.groups[0].gate != nullptr ? Tile::kRows / 2 : Tile::kRows))
    return cudaErrorInvalidValue;
  const int64_t blocks = std::min<int64_t>(tiles, config.grid);
  if (blocks <= 0) return cudaSuccess;
  return launch(f32_expert_matmul_kernel<Tile>, dim3(static_cast<unsigned>(blocks)),
                dim3(Tile::kThreads), Tile::kSharedBytes, stream, args);
}

}  // namespace

cudaError_t launch_f32_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                     LaunchStream stream) {
  if (config.tile_tokens == F32SmallTile::kTokens) {
    switch (config.split_k) {
      case 1:
        return launch_tiles<F32SmallTile>(args, config, stream);
      case F32SmallTileSplit2::kSplit:
        return launch_tiles<F32SmallTileSplit2>(args, config, stream);
      case F32SmallTileSplit4::kSplit:
        return launch_tiles<F32SmallTileSplit4>(args, config, stream);
      default:
        return cudaErrorInvalidValue;
    }
  }
  if (config.split_k != 1) return cudaErrorInvalidValue;
  switch (config.tile_tokens) {
    case F32MediumTile::kTokens:
      return launch_tiles<F32MediumTile>(args, config, stream);
    case F32LargeTile::kTokens:
      return launch_tiles<F32LargeTile>(args, config, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace sparse_experts::cuda
