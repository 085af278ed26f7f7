// Host side of the 16-bit matmuls on wgmma, for the table of variants. Both types run the same kernels
// (wg_expert_matmul.cuh) with the same configurations.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"
#include "cuda/ops/weight_maps.h"

namespace sparse_experts::cuda {

// Many tokens per expert, weights that tensor maps describe. Not with batch_invariant: that wgmma gives
// the bits of mma.sync is what a model of the tensor cores says, and no GPU has confirmed it yet.
bool serves_wg_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits);
MatmulConfig choose_wg_expert_matmul(const MatmulShape& shape, const DeviceLimits& limits);
// Every width, however few the tokens: what a sweep compares. None where no width could run.
std::vector<MatmulConfig> list_wg_expert_matmul(const MatmulShape& shape,
                                                const DeviceLimits& limits);

// One map for each expert, as the kernels' bulk copies want it. False, and nothing is known of what
// `maps` holds, where these matrices cannot be described or read so:
//   - K is no multiple of 8 elements, or a matrix or a row does not begin at a multiple of 16 bytes
//   - gated: the outputs are no multiple of 8, or an up matrix lies before its gate matrix, or 2^40
//     bytes or more behind it
//   - the driver has no such function, or refuses
bool encode_wg_weight_maps(const WeightMatrices& matrices, void* maps);

// Raises the shared-memory limits of all instances on the current device, whose limits these are.
cudaError_t prepare_bf16_wg_expert_matmul(const DeviceLimits& limits);
cudaError_t prepare_f16_wg_expert_matmul(const DeviceLimits& limits);
// The args were checked (launch_expert_matmul), and one group has rows at least.
cudaError_t launch_bf16_wg_expert_matmul(const ExpertMatmulKernelArgs& args,
                                         const MatmulConfig& config, LaunchStream stream);
cudaError_t launch_f16_wg_expert_matmul(const ExpertMatmulKernelArgs& args,
                                        const MatmulConfig& config, LaunchStream stream);

}  // namespace sparse_experts::cuda
