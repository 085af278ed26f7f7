#include "cuda/ops/expert_matmul_tiles.h"

#include <algorithm>
#include <cstdio>

#include "core/numeric.h"

namespace sparse_experts::cuda {
namespace {

// Column tiles of one token: of its experts, and of the shared one.
int64_t tiles_of_a_token(const MatmulShape& shape, int64_t tile_columns) {
  return shape.top_k * ceil_div(shape.rows, tile_columns) +
         ceil_div(shape.shared_rows, tile_columns);
}

constexpr int64_t kReservedSharedBytes = 1024;  // by the driver, of every block

}  // namespace

int64_t shared_bytes_of_block(const DeviceLimits& limits, int64_t blocks_per_multiprocessor) {
  return std::min(
      limits.shared_bytes_per_multiprocessor / blocks_per_multiprocessor - kReservedSharedBytes,
      limits.shared_bytes_per_block);
}

double tokens_per_expert(const MatmulShape& shape) {
  const auto tokens = static_cast<double>(shape.num_tokens);
  if (shape.num_experts <= 0) return tokens;
  return tokens * static_cast<double>(shape.top_k) / static_cast<double>(shape.num_experts);
}

int32_t choose_split(const MatmulShape& shape, const DeviceLimits& limits, int64_t tile_columns,
                     int64_t block_k, int32_t max_split) {
  if (shape.batch_invariant != 0) return 1;
  int32_t split = 1;
  // One block has 16 to 24 KiB under way: half as many blocks again as multiprocessors fill the
  // memory's pipeline.
  while (split < max_split && shape.cols >= 4 * block_k * split &&
         2 * tiles_of_a_token(shape, tile_columns / split) < 3 * limits.num_multiprocessors) {
    split *= 2;
  }
  return split;
}

int64_t tiles_at_most(const ExpertMatmulKernelArgs& args, const MatmulConfig& config) {
  int64_t tiles = 0;
  for (int32_t i = 0; i < args.num_groups; ++i) {
    const MatmulGroup& group = args.groups[i];
    const int64_t experts = group.tiles != nullptr ? group.num_experts : 1;
    tiles += token_tiles_at_most(group.num_rows, experts, config.tile_tokens) *
             ceil_div(group.rows, config.tile_rows);
  }
  return tiles;
}

void describe_tiles(const char* name, const MatmulConfig& config, char* text, uint64_t size) {
  char split[32] = "";
  if (config.split_k > 1) std::snprintf(split, sizeof split, ", K split in %d", config.split_k);
  std::snprintf(text, size, "%s %dx%dx%d, %d stages, %d warps%s, %d blocks, %d per multiprocessor",
                name, config.tile_rows, config.tile_tokens, config.tile_k, config.stages,
                config.threads / 32, split, config.grid, config.blocks_per_multiprocessor);
}

}  // namespace sparse_experts::cuda
