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

#include "abi/backend.h"
#include "core/numeric.h"
#include "cuda/kernels/sm80/half_expert_matmul.h"
#include "cuda/kernels/sm80/half_expert_matmul_tile.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {
namespace {

constexpr int64_t kReservedSharedBytes = 1024;  // by the driver, of every block
constexpr int64_t kMaxDecodeWaves = 64;

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

// For blocks of which a multiprocessor can have most_blocks at once.
Pipeline choose_pipeline(const DeviceLimits& limits, int64_t most_blocks, int64_t stage_bytes,
                         int64_t static_bytes) {
  for (int64_t blocks = most_blocks; blocks > 0; --blocks) {
    const int64_t share =
        std::min(limits.shared_bytes_per_multiprocessor / blocks - kReservedSharedBytes,
                 limits.shared_bytes_per_block) -
        static_bytes;
    for (const int32_t stages : {kMostStages, kSomeStages, kFewStages}) {
      if (stages * stage_bytes <= share) return {static_cast<int32_t>(blocks), stages};
    }
  }
  return {1, kFewStages};
}

template <typename Tile>
MatmulConfig configure(const MatmulShape& shape, const DeviceLimits& limits, HalfChoice choice) {
  MatmulConfig config;
  config.kernel = choice.kernel;
  config.tile_tokens = choice.tile_tokens;
  config.tile_k = Tile::kBlockK;
  config.threads = Tile::kThreads;
  const int32_t columns = shape.gated != 0 ? Tile::kRows / 2 : Tile::kRows;
  config.split_k = choose_split(shape, limits, columns, Tile::kBlockK, Tile::kMaxSplit);
  config.tile_rows = columns / config.split_k;

  const int64_t token_tiles =
      token_tiles_at_most(shape.num_tokens * shape.top_k, shape.num_experts, config.tile_tokens);
  const int64_t tiles = token_tiles * ceil_div(shape.rows, config.tile_rows) +
                        ceil_div(shape.num_tokens, config.tile_tokens) *
                            ceil_div(shape.shared_rows, config.tile_rows);
  const int64_t stage_bytes = Tile::stage_bytes(config.tile_tokens, config.split_k);
  const int64_t most_blocks = std::clamp<int64_t>(
      ceil_div(tiles, std::max(1, limits.num_multiprocessors)), 1, Tile::kBlocks);
  const Pipeline pipeline = choose_pipeline(limits, most_blocks, stage_bytes, Tile::kStaticBytes);
  config.stages = pipeline.stages;
  config.blocks_per_multiprocessor = pipeline.blocks;
  config.shared_bytes = config.stages * stage_bytes;
  int64_t blocks = int64_t{limits.num_multiprocessors} * config.blocks_per_multiprocessor;
  if (choice.kernel == kHalfDecode) blocks *= kMaxDecodeWaves;
  config.grid = static_cast<int32_t>(tiles < 1 ? 1 : tiles < blocks ? tiles : blocks);
  return config;
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

}  // namespace sparse_experts::cuda
