// How a matmul is launched: a pure function of its shape and of the device's limits.
//
//   1. The tokens per tile follow the tokens per expert: wide enough that most experts need one tile
//      and their weights are read once, and never above the number of tokens.
//   2. Few tokens: blocks of few rows, one per tile, which the hardware hands out. They are bound
//      by memory, and it evens out blocks that differ. Many tokens: persistent blocks.
//   3. As many blocks as a multiprocessor holds and has work for, then as many stages as their share
//      of its shared memory has room for: more weights under way.
//   4. K is split only where one token's tiles leave multiprocessors without work, whatever the
//      number of tokens in this call.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "abi/backend.h"
#include "core/numeric.h"
#include "cuda/kernels/sm80/half_expert_matmul.h"
#include "cuda/kernels/sm80/half_expert_matmul_tile.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {
namespace {

struct HalfChoice {
  int32_t kernel;
  int32_t tile_tokens;
};

HalfChoice choose_half(const MatmulShape& shape) {
  const int64_t tokens = shape.num_tokens;
  const double per_expert = tokens_per_expert(shape);
  if (tokens <= 8) return {kHalfDecode, 8};
  if (per_expert <= 10 || tokens <= 16) return {kHalfDecode, 16};
  if (per_expert <= 24 || tokens <= 32) return {kHalfSmall, 32};
  if (per_expert <= 48 || tokens <= 64) return {kHalfLarge, 64};
  return {kHalfLarge, 128};
}

struct Pipeline {
  int32_t blocks;  // per multiprocessor
  int32_t stages;
};

constexpr int32_t kStages[] = {kMostStages, kSomeStages, kFewStages};

// Bytes of stages that one of so many blocks on a multiprocessor can have.
int64_t share_of(const DeviceLimits& limits, int64_t blocks, int64_t static_bytes) {
  return shared_bytes_of_block(limits, blocks) - static_bytes;
}

// What launches of one tile have in common.
template <typename Tile>
struct TileLaunch {
  HalfChoice choice;
  int32_t split_k;
  int64_t tiles;
  int64_t most_blocks;  // per multiprocessor, that have a tile

  TileLaunch(const MatmulShape& shape, const DeviceLimits& limits, HalfChoice half)
      : choice(half),
        split_k(choose_split(shape, limits, columns(shape), Tile::kBlockK, Tile::kMaxSplit)) {
    const int64_t token_tiles =
        token_tiles_at_most(shape.num_tokens * shape.top_k, shape.num_experts, choice.tile_tokens);
    const int32_t rows = columns(shape) / split_k;
    tiles = token_tiles * ceil_div(shape.rows, rows) +
            ceil_div(shape.num_tokens, choice.tile_tokens) * ceil_div(shape.shared_rows, rows);
    most_blocks = std::clamp<int64_t>(ceil_div(tiles, std::max(1, limits.num_multiprocessors)), 1,
                                      Tile::kBlocks);
  }

  static int32_t columns(const MatmulShape& shape) {
    return shape.gated != 0 ? Tile::kRows / 2 : Tile::kRows;
  }
  int64_t stage_bytes() const { return Tile::stage_bytes(choice.tile_tokens, split_k); }

  // The most blocks, and then the most stages, that there is room for.
  Pipeline choose_pipeline(const DeviceLimits& limits) const {
    for (int64_t blocks = most_blocks; blocks > 0; --blocks) {
      for (const int32_t stages : kStages) {
        if (stages * stage_bytes() <= share_of(limits, blocks, Tile::kStaticBytes))
          return {static_cast<int32_t>(blocks), stages};
      }
    }
    return {1, kFewStages};
  }

  MatmulConfig config(const MatmulShape& shape, const DeviceLimits& limits,
                      Pipeline pipeline) const {
    MatmulConfig config;
    config.kernel = choice.kernel;
    config.tile_rows = columns(shape) / split_k;
    config.tile_tokens = choice.tile_tokens;
    config.tile_k = Tile::kBlockK;
    config.threads = Tile::kThreads;
    config.split_k = split_k;
    config.stages = pipeline.stages;
    config.blocks_per_multiprocessor = pipeline.blocks;
    config.shared_bytes = config.stages * stage_bytes();
    int64_t blocks = int64_t{limits.num_multiprocessors} * config.blocks_per_multiprocessor;
    if (choice.kernel == kHalfDecode) blocks *= kMaxDecodeWaves;
    config.grid = static_cast<int32_t>(tiles < 1 ? 1 : tiles < blocks ? tiles : blocks);
    return config;
  }
};

template <typename Tile>
MatmulConfig configure(const MatmulShape& shape, const DeviceLimits& limits, HalfChoice choice) {
  const TileLaunch<Tile> launch(shape, limits, choice);
  return launch.config(shape, limits, launch.choose_pipeline(limits));
}

template <typename Tile>
void list_tile(const MatmulShape& shape, const DeviceLimits& limits, HalfChoice choice,
               std::vector<MatmulConfig>* configs) {
  const TileLaunch<Tile> launch(shape, limits, choice);
  for (int64_t blocks = launch.most_blocks; blocks > 0; --blocks) {
    for (const int32_t stages : kStages) {
      if (stages * launch.stage_bytes() <= share_of(limits, blocks, Tile::kStaticBytes))
        configs->push_back(launch.config(shape, limits, {static_cast<int32_t>(blocks), stages}));
    }
  }
}

}  // namespace

MatmulConfig choose_half_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits) {
  const HalfChoice choice = choose_half(shape);
  switch (choice.kernel) {
    case kHalfDecode:
      return configure<HalfDecodeTile>(shape, limits, choice);
    case kHalfSmall:
      return configure<HalfSmallTile>(shape, limits, choice);
    default:
      return configure<HalfLargeTile>(shape, limits, choice);
  }
}

std::vector<MatmulConfig> list_half_expert_matmul(const MatmulShape& shape,
                                                  const DeviceLimits& limits) {
  std::vector<MatmulConfig> configs;
  for (const int32_t tokens : {8, 16})
    list_tile<HalfDecodeTile>(shape, limits, {kHalfDecode, tokens}, &configs);
  for (const int32_t tokens : {16, 32})
    list_tile<HalfSmallTile>(shape, limits, {kHalfSmall, tokens}, &configs);
  for (const int32_t tokens : {32, 64, 128})
    list_tile<HalfLargeTile>(shape, limits, {kHalfLarge, tokens}, &configs);
  return configs;
}

}  // namespace sparse_experts::cuda
