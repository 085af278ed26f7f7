// What the translation units of the expert matmuls offer each other: one set of functions for each
// arithmetic dtype, behind launch_expert_matmul, prepare_expert_matmul and choose_matmul. The args
// were checked, and num_rows > 0 in one group at least.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"

namespace sparse_experts::cuda {

// matmul_bf16.cu, matmul_f16.cu: the same kernels (kernels/half_expert_matmul.cuh)
cudaError_t prepare_bf16_expert_matmul();
cudaError_t launch_bf16_expert_matmul(const ExpertMatmulKernelArgs& args,
                                      const MatmulConfig& config, cudaStream_t stream);
cudaError_t prepare_f16_expert_matmul();
cudaError_t launch_f16_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                     cudaStream_t stream);

// matmul_f32.cu, f32_expert_matmul_config.cc
cudaError_t prepare_f32_expert_matmul();
cudaError_t launch_f32_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                     cudaStream_t stream);
MatmulConfig choose_f32_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits);

// half_expert_matmul_config.cc: in how many parts (1, 2 … max_split) a call of few tokens sums over K, given
// the output columns of a tile without a split and the K of one of its steps. The number of tokens
// does not enter.
int32_t choose_split(const MatmulShape& shape, const DeviceLimits& limits, int64_t tile_columns,
                     int64_t block_k, int32_t max_split);

// Tiles of tile_tokens tokens that a call has at most in one group: an expert's last tile may be
// part full, and an expert without tokens has none.
inline int64_t token_tiles_at_most(int64_t num_rows, int64_t num_experts, int64_t tile_tokens) {
  const int64_t active = num_rows < num_experts ? num_rows : num_experts;
  return num_rows <= 0 ? 0 : active + (num_rows - active) / tile_tokens;
}

}  // namespace sparse_experts::cuda
