// Host side of the f32 matmul, for the table of variants.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"

namespace sparse_experts::cuda {

MatmulConfig choose_f32_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits);
// Every tile: what a sweep compares. K is split as it is chosen.
std::vector<MatmulConfig> list_f32_expert_matmul(const MatmulShape& shape,
                                                 const DeviceLimits& limits);
// The args were checked (launch_expert_matmul), and one group has rows at least.
cudaError_t launch_f32_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                     LaunchStream stream);

}  // namespace sparse_experts::cuda
