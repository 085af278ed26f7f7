// Host side of the matmuls by stored codes on mma.sync, for the table of variants. A row of the table,
// and a source of kernels, for each arithmetic and each code in which matrices lie (stored_layout.h).
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"

namespace sparse_experts::cuda {

// Whether two stages of the shape's matrices have room in a block's shared memory.
bool serves_stored_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits);
MatmulConfig choose_stored_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits);
// Every number of tokens with every number of stages and of blocks to a multiprocessor that this device
// has room for.
std::vector<MatmulConfig> list_stored_expert_matmul(const MatmulShape& shape,
                                                    const DeviceLimits& limits);

// Raise the shared-memory limits of all instances on the current device, whose limits these are.
cudaError_t prepare_bf16_u4_expert_matmul(const DeviceLimits& limits);
cudaError_t prepare_bf16_i8_expert_matmul(const DeviceLimits& limits);
cudaError_t prepare_bf16_e4m3_expert_matmul(const DeviceLimits& limits);
cudaError_t prepare_f16_u4_expert_matmul(const DeviceLimits& limits);
cudaError_t prepare_f16_i8_expert_matmul(const DeviceLimits& limits);
cudaError_t prepare_f16_e4m3_expert_matmul(const DeviceLimits& limits);

// The args were checked (launch_expert_matmul), and one group has rows at least.
cudaError_t launch_bf16_u4_expert_matmul(const ExpertMatmulKernelArgs& args,
                                         const MatmulConfig& config, LaunchStream stream);
cudaError_t launch_bf16_i8_expert_matmul(const ExpertMatmulKernelArgs& args,
                                         const MatmulConfig& config, LaunchStream stream);
cudaError_t launch_bf16_e4m3_expert_matmul(const ExpertMatmulKernelArgs& args,
                                           const MatmulConfig& config, LaunchStream stream);
cudaError_t launch_f16_u4_expert_matmul(const ExpertMatmulKernelArgs& args,
                                        const MatmulConfig& config, LaunchStream stream);
cudaError_t launch_f16_i8_expert_matmul(const ExpertMatmulKernelArgs& args,
                                        const MatmulConfig& config, LaunchStream stream);
cudaError_t launch_f16_e4m3_expert_matmul(const ExpertMatmulKernelArgs& args,
                                          const MatmulConfig& config, LaunchStream stream);

}  // namespace sparse_experts::cuda
