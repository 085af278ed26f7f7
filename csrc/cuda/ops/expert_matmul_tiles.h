// What the variants of the expert matmul share when they cut a matmul into tiles.
#pragma once

#include <cstdint>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"

namespace sparse_experts::cuda {

// Tokens that an expert has on average.
double tokens_per_expert(const MatmulShape& shape);

// A decode launch has a block for each tile, up to this many for each block that the GPU runs at once.
constexpr int64_t kMaxDecodeWaves = 64;

// Bytes of shared memory that each of so many blocks on a multiprocessor can have.
int64_t shared_bytes_of_block(const DeviceLimits& limits, int64_t blocks_per_multiprocessor);

// In how many parts (1, 2 … max_split) a call of few tokens sums over K, given the output columns of
// a tile without a split and the K of one of its steps. The number of tokens does not enter.
int32_t choose_split(const MatmulShape& shape, const DeviceLimits& limits, int64_t tile_columns,
                     int64_t block_k, int32_t max_split);

// Tiles that a launch has at most in all its groups: its grid. The kernels count them in 32 bits, and
// the variants refuse a launch of more than INT32_MAX.
int64_t tiles_at_most(const ExpertMatmulKernelArgs& args, const MatmulConfig& config);

// "NAME 64x32x64, 4 stages, …"
void describe_tiles(const char* name, const MatmulConfig& config, char* text, uint64_t size);

}  // namespace sparse_experts::cuda
