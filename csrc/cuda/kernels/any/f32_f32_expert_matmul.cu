// The f32 matmul's instantiations and their launch.
#include <algorithm>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/f32_expert_matmul.cuh"
#include "cuda/kernels/any/f32_expert_matmul.h"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {
namespace {

template <typename Tile>
int64_t tiles_at_most(const MatmulGroup& group) {
  const int64_t columns = group.gate != nullptr ? Tile::kRows / 2 : Tile::kRows;
  const int64_t experts = group.expert_offsets != nullptr ? group.num_experts : 1;
  return token_tiles_at_most(group.num_rows, experts, Tile::kTokens) *
         ((group.rows + columns - 1) / columns);
}

template <typename Tile>
cudaError_t launch_tiles(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                         cudaStream_t stream) {
  int64_t tiles = 0;
  for (int32_t g = 0; g < args.num_groups; ++g) tiles += tiles_at_most<Tile>(args.groups[g]);
  const int64_t blocks = std::min<int64_t>(tiles, config.grid);
  if (blocks <= 0) return cudaSuccess;
  return launch(f32_expert_matmul_kernel<Tile>, dim3(static_cast<unsigned>(blocks)),
                dim3(Tile::kThreads), Tile::kSharedBytes, stream, args);
}

}  // namespace

cudaError_t launch_f32_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                     cudaStream_t stream) {
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
