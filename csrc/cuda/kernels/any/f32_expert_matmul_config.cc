// Which tile the f32 matmul takes. Tiles that split K alike give the same bits; K is split for few
// tokens only, by the rule of the 16-bit matmuls (choose_split), and never with batch_invariant.
#include <algorithm>
#include <vector>

#include "core/numeric.h"
#include "cuda/kernels/any/f32_expert_matmul.h"
#include "cuda/kernels/any/f32_expert_matmul_shapes.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {
namespace {

// Mean tokens of an expert up to which a tile of 8 or of 32 seldom has to read weights again.
constexpr int64_t kSmallTokens = 2;
constexpr int64_t kMediumTokens = 24;
// What the kernel's static arrays and the driver take from a block's share of shared memory.
constexpr int64_t kReservedBytes = 4096;

// A block per tile up to here: tiles share nothing but L2, and the hardware hands blocks out more
// evenly than a fixed stride does where tiles differ.
constexpr int64_t kMaxWaves = 64;

template <typename Tile>
MatmulConfig config_of(const MatmulShape& shape, const DeviceLimits& limits, int32_t kernel) {
  MatmulConfig config;
  config.kernel = kernel;
  config.tile_rows = shape.gated ? Tile::kRows / 2 : Tile::kRows;
  config.tile_tokens = Tile::kTokens;
  config.tile_k = Tile::kDepth / Tile::kSplit;
  config.stages = Tile::kStages;
  config.threads = Tile::kThreads;
  config.split_k = Tile::kSplit;
  config.shared_bytes = Tile::kSharedBytes;
  const int64_t by_shared =
      limits.shared_bytes_per_multiprocessor / (Tile::kSharedBytes + kReservedBytes);
  config.blocks_per_multiprocessor =
      static_cast<int32_t>(std::clamp<int64_t>(by_shared, 1, Tile::kBlocks));
  const int64_t tiles =
      token_tiles_at_most(shape.num_tokens * shape.top_k, shape.num_experts, Tile::kTokens) *
          ceil_div(shape.rows, config.tile_rows) +
      ceil_div(shape.num_tokens, Tile::kTokens) * ceil_div(shape.shared_rows, config.tile_rows);
  const int64_t blocks =
      int64_t{limits.num_multiprocessors} * config.blocks_per_multiprocessor * kMaxWaves;
  config.grid = static_cast<int32_t>(std::clamp<int64_t>(tiles, 1, blocks));
  return config;
}

MatmulConfig small_config(const MatmulShape& shape, const DeviceLimits& limits) {
  const int32_t columns = shape.gated != 0 ? F32SmallTile::kRows / 2 : F32SmallTile::kRows;
  switch (choose_split(shape, limits, columns, F32SmallTile::kDepth, F32SmallTileSplit4::kSplit)) {
    case F32SmallTileSplit2::kSplit:
      return config_of<F32SmallTileSplit2>(shape, limits, 0);
    case F32SmallTileSplit4::kSplit:
      return config_of<F32SmallTileSplit4>(shape, limits, 0);
    default:
      return config_of<F32SmallTile>(shape, limits, 0);
  }
}

}  // namespace

MatmulConfig choose_f32_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits) {
  const int64_t slots = shape.num_tokens * shape.top_k;
  const int64_t experts = std::max<int64_t>(1, shape.num_experts);
  // No expert gets more tokens than there are.
  if (shape.num_tokens <= F32SmallTile::kTokens || slots <= kSmallTokens * experts)
    return small_config(shape, limits);
  if (shape.num_tokens <= F32MediumTile::kTokens || slots <= kMediumTokens * experts)
    return config_of<F32MediumTile>(shape, limits, 1);
  return config_of<F32LargeTile>(shape, limits, 2);
}

std::vector<MatmulConfig> list_f32_expert_matmul(const MatmulShape& shape,
                                                 const DeviceLimits& limits) {
  return {small_config(shape, limits), config_of<F32MediumTile>(shape, limits, 1),
          config_of<F32LargeTile>(shape, limits, 2)};
}

}  // namespace sparse_experts::cuda
