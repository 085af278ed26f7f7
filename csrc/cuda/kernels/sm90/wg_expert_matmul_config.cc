// How a matmul on wgmma is launched: a pure function of its shape and of the device's limits.
//
//   1. It serves calls with more tokens per expert than a stream of weights needs (below that the tiles
//      of mma.sync are narrower, and several blocks share a multiprocessor).
//   2. The width of the tiles is the one that costs least by a plain count: a tile costs its tokens, and
//      as much again as 64 tokens for its weights and its end. An expert with n tokens on average has
//      n / width tiles and half a one more, for what its last tile leaves empty, and one at least. Of
//      equals the widest, which reads weights least often.
//   3. Persistent blocks, one to a multiprocessor.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/numeric.h"
#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/kernels/sm90/wg_expert_matmul_tile.cuh"
#include "cuda/ops/expert_matmul_tiles.h"

namespace sparse_experts::cuda {
namespace {

constexpr double kTokensOfATile = 64;  // what a tile costs besides its tokens
constexpr double kFewTokens = 24;      // per expert
constexpr int64_t kFewRows = 32;       // of a call

template <int kTokens>
void configure(const MatmulShape& shape, const DeviceLimits& limits, MatmulConfig* config) {
  using Tile = WgTile<kTokens>;
  config->kernel = kTokens;
  config->tile_rows = shape.gated != 0 ? Tile::kRows / 2 : Tile::kRows;
  config->tile_tokens = kTokens;
  config->tile_k = Tile::kBlockK;
  config->stages = Tile::kStages;
  config->threads = Tile::kBlockThreads;
  config->shared_bytes = Tile::kSharedBytes;
  const int64_t tiles =
      token_tiles_at_most(shape.num_tokens * shape.top_k, shape.num_experts, kTokens) *
          ceil_div(shape.rows, config->tile_rows) +
      ceil_div(shape.num_tokens, int64_t{kTokens}) * ceil_div(shape.shared_rows, config->tile_rows);
  config->grid =
      static_cast<int32_t>(std::clamp<int64_t>(tiles, 1, std::max(1, limits.num_multiprocessors)));
}

MatmulConfig configure_width(int32_t width, const MatmulShape& shape, const DeviceLimits& limits) {
  MatmulConfig config;
  switch (width) {
    case 64:
      configure<64>(shape, limits, &config);
      break;
    case 128:
      configure<128>(shape, limits, &config);
      break;
    case 192:
      configure<192>(shape, limits, &config);
      break;
    default:
      configure<256>(shape, limits, &config);
      break;
  }
  return config;
}

constexpr int32_t kWidths[] = {64, 128, 192, 256};

double cost(double tokens, int32_t width) {
  return std::max(1.0, tokens / width + 0.5) * (width + kTokensOfATile);
}

bool can_run(const MatmulShape& shape, const DeviceLimits& limits) {
  using Widest = WgTile<256>;
  return shape.bulk_ready != 0 && shape.batch_invariant == 0 &&
         Widest::kSharedBytes + Widest::kStaticBytes <= limits.shared_bytes_per_block;
}

}  // namespace

bool serves_wg_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits) {
  return can_run(shape, limits) && tokens_per_expert(shape) > kFewTokens &&
         shape.num_tokens > kFewRows;
}

MatmulConfig choose_wg_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits) {
  const double tokens = tokens_per_expert(shape);
  int32_t width = kWidths[0];
  for (const int32_t wider : kWidths) {
    if (cost(tokens, wider) <= cost(tokens, width)) width = wider;
  }
  return configure_width(width, shape, limits);
}

std::vector<MatmulConfig> list_wg_expert_matmul(const MatmulShape& shape,
                                                const DeviceLimits& limits) {
  std::vector<MatmulConfig> configs;
  if (!can_run(shape, limits)) return configs;
  for (const int32_t width : kWidths) configs.push_back(configure_width(width, shape, limits));
  return configs;
}

}  // namespace sparse_experts::cuda
