// Host side of the 16-bit matmuls on mma.sync, for the table of variants. Both types run the same
// kernels (half_expert_matmul.cuh) with the same configurations.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"

namespace sparse_experts::cuda {

MatmulConfig choose_half_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits);
// Every tile with every number of stages and of blocks to a multiprocessor that this device has room
// for: what a sweep compares. K is split as it is chosen.
std::vector<MatmulConfig> list_half_expert_matmul(const MatmulShape& shape,
                                                  const DeviceLimits& limits);

// Raises the shared-memory limits of all instances on the current device, whose limits these are.
cudaError_t prepare_bf16_expert_matmul(const DeviceLimits& limits);
cudaError_t prepare_f16_expert_matmul(const DeviceLimits& limits);
// The args were checked (launch_expert_matmul), and one group has rows at least.
cudaError_t launch_bf16_expert_matmul(const ExpertMatmulKernelArgs& args,
                                      const MatmulConfig& config, LaunchStream stream);
cudaError_t launch_f16_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                     LaunchStream stream);

}  // namespace sparse_experts::cuda
