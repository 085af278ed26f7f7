// The configurations of the warp-group matmul, for suites that run every formulation of a problem.
#pragma once

#include <vector>

#include "cuda/kernels/sm90/wg_expert_matmul_tile.cuh"
#include "cuda/matmul_half_problem.h"

namespace native_test {

constexpr int64_t kManyRows = 512;

template <int kTokens>
MatmulConfig forced_wg(bool gated, int32_t dtype, int32_t grid) {
  using Tile = sparse_experts::cuda::WgTile<kTokens>;
  MatmulConfig config;
  config.kernel = kTokens;
  config.tile_rows = gated ? Tile::kRows / 2 : Tile::kRows;
  config.tile_tokens = kTokens;
  config.tile_k = Tile::kBlockK;
  config.stages = Tile::kStages;
  config.threads = kWgThreads;
  config.grid = grid;
  config.shared_bytes = Tile::kSharedBytes;
  return with_variant(config, dtype);
}

// Of every width where there are not many rows, few blocks. None where the device has no such instructions, or the operands lie where
// bulk copies cannot read them.
inline std::vector<MatmulConfig> wg_configs(const MatmulProblem& problem) {
  if (!problem.is_bulk_ready() || with_variant(wg_probe(), problem.spec().dtype).variant < 0)
    return {};
  const bool gated = problem.spec().gated;
  const int32_t dtype = problem.spec().dtype;
  // Wide tiles of few tokens are mostly zeros, and cost an emulator as much as others.
  if (problem.spec().rows > kManyRows) return {forced_wg<64>(gated, dtype, 3)};
  return {forced_wg<64>(gated, dtype, 3), forced_wg<128>(gated, dtype, 1),
          forced_wg<192>(gated, dtype, 2), forced_wg<256>(gated, dtype, 1000)};
}

inline std::vector<MatmulConfig> with_warp_groups(std::vector<MatmulConfig> configs,
                                                  const MatmulProblem& problem) {
  const std::vector<MatmulConfig> more = wg_configs(problem);
  configs.insert(configs.end(), more.begin(), more.end());
  return configs;
}

}  // namespace native_test
