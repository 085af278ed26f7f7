// How a matmul by stored codes is launched: a pure function of its shape and of the device's limits.
//
//   1. The tokens per tile follow the tokens per expert, as those of the 16-bit matmul do, up to 64, or
//      as many as two stages of a block have room for.
//   2. As many blocks and stages as keep the most bytes of weights under way. Few tokens: one block per
//      tile, which the hardware hands out. Many tokens: persistent blocks.
//   3. K is never split: a row's bits do not depend on anything but the row.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/numeric.h"
#include "cuda/kernels/sm80/stored_expert_matmul.h"
#include "cuda/kernels/sm80/stored_expert_matmul_tile.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {
namespace {

constexpr int32_t kWidths[] = {64, 32, 16, 8};  // tokens of a tile
constexpr int32_t kLeastTokens = 8;

struct Pipeline {
  int32_t blocks = 0;  // per multiprocessor; 0: there is no room
  int32_t stages = 0;

  // Stages of weights that are under way while another is multiplied.
  int32_t under_way() const { return blocks * (stages - 1); }
};

int32_t largest_chunk(const MatmulShape& shape) {
  int32_t bytes = stored_layout(shape.rows, shape.cols, *shape.stored).largest_chunk;
  if (shape.shared_rows > 0 && shape.shared_stored != nullptr)
    bytes = std::max(
        bytes,
        stored_layout(shape.shared_rows, shape.shared_cols, *shape.shared_stored).largest_chunk);
  return bytes;
}

int32_t wanted_tokens(const MatmulShape& shape) {
  const int64_t tokens = shape.num_tokens;
  const double per_expert = tokens_per_expert(shape);
  if (tokens <= 8) return 8;
  if (per_expert <= 10 || tokens <= 16) return 16;
  if (per_expert <= 24 || tokens <= 32) return 32;
  return 64;
}

// Launches of one tile and one number of tokens.
template <typename Tile>
class TileLaunch {
 public:
  TileLaunch(const MatmulShape& shape, const DeviceLimits& limits, int32_t tile_tokens)
      : limits_(limits),
        tile_tokens_(tile_tokens),
        stage_bytes_(Tile::stage_bytes(largest_chunk(shape), tile_tokens)),
        columns_(shape.gated != 0 ? Tile::kRows / 2 : Tile::kRows) {
    tiles_ = token_tiles_at_most(shape.num_tokens * shape.top_k, shape.num_experts, tile_tokens) *
                 ceil_div(shape.rows, columns_) +
             ceil_div(shape.num_tokens, tile_tokens) * ceil_div(shape.shared_rows, columns_);
    most_blocks_ = std::clamp<int64_t>(ceil_div(tiles_, std::max(1, limits.num_multiprocessors)), 1,
                                       Tile::kBlocks);
  }

  bool has_room(Pipeline pipeline) const {
    return pipeline.stages * stage_bytes_ + Tile::kStaticBytes <=
           shared_bytes_of_block(limits_, pipeline.blocks);
  }

  // All that there is room for, the most blocks first.
  std::vector<Pipeline> pipelines() const {
    std::vector<Pipeline> found;
    for (auto blocks = static_cast<int32_t>(most_blocks_); blocks > 0; --blocks) {
      for (int32_t stages = kMostStoredStages; stages >= kLeastStoredStages; --stages) {
        if (has_room({blocks, stages})) found.push_back({blocks, stages});
      }
    }
    return found;
  }

  Pipeline choose() const {
    Pipeline best;
    for (const Pipeline& pipeline : pipelines()) {
      if (best.blocks == 0 || pipeline.under_way() > best.under_way()) best = pipeline;
    }
    return best;
  }

  MatmulConfig config(int32_t kernel, Pipeline pipeline) const {
    MatmulConfig config;
    config.kernel = kernel;
    config.tile_rows = columns_;
    config.tile_tokens = tile_tokens_;
    config.tile_k = kChunkCols;
    config.threads = Tile::kThreads;
    config.stages = pipeline.stages;
    config.blocks_per_multiprocessor = pipeline.blocks;
    config.shared_bytes = pipeline.stages * stage_bytes_;
    int64_t blocks = int64_t{limits_.num_multiprocessors} * pipeline.blocks;
    if (kernel == kStoredDecode) blocks *= kMaxDecodeWaves;
    config.grid = static_cast<int32_t>(std::clamp<int64_t>(tiles_, 1, blocks));
    return config;
  }

 private:
  const DeviceLimits& limits_;
  int32_t tile_tokens_;
  int64_t stage_bytes_;
  int32_t columns_;  // outputs of a tile
  int64_t tiles_;
  int64_t most_blocks_;  // per multiprocessor, that have a tile
};

// visit(launch, kernel) of the tile that takes so many tokens.
template <typename Visit>
auto with_launch(const MatmulShape& shape, const DeviceLimits& limits, int32_t tokens,
                 const Visit& visit) {
  if (tokens <= StoredDecodeTile::kMaxTokens)
    return visit(TileLaunch<StoredDecodeTile>(shape, limits, tokens), kStoredDecode);
  return visit(TileLaunch<StoredWideTile>(shape, limits, tokens), kStoredWide);
}

bool fits(const MatmulShape& shape, const DeviceLimits& limits, int32_t tokens) {
  return with_launch(shape, limits, tokens, [](const auto& launch, StoredKernel) {
    return launch.has_room({1, kLeastStoredStages});
  });
}

}  // namespace

bool serves_stored_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits) {
  return fits(shape, limits, kLeastTokens);
}

MatmulConfig choose_stored_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits) {
  int32_t tokens = wanted_tokens(shape);
  while (tokens > kLeastTokens && !fits(shape, limits, tokens)) tokens /= 2;
  return with_launch(shape, limits, tokens, [](const auto& launch, StoredKernel kernel) {
    return launch.config(kernel, launch.choose());
  });
}

std::vector<MatmulConfig> list_stored_expert_matmul(const MatmulShape& shape,
                                                    const DeviceLimits& limits) {
  std::vector<MatmulConfig> configs;
  for (const int32_t tokens : kWidths) {
    with_launch(shape, limits, tokens, [&](const auto& launch, StoredKernel kernel) {
      for (const Pipeline& pipeline : launch.pipelines())
        configs.push_back(launch.config(kernel, pipeline));
    });
  }
  return configs;
}

}  // namespace sparse_experts::cuda
