#include "cuda/kernels/sm80/stored_expert_matmul.h"
#include "cuda/kernels/sm80/stored_expert_matmul_launch.cuh"

namespace sparse_experts::cuda {

cudaError_t prepare_bf16_u4_expert_matmul(const DeviceLimits& limits) {
  return prepare_stored_expert_matmul<Bf16, Nibbles>(limits);
}

cudaError_t launch_bf16_u4_expert_matmul(const ExpertMatmulKernelArgs& args,
                                         const MatmulConfig& config, LaunchStream stream) {
  return launch_stored_expert_matmul<Bf16, Nibbles>(args, config, stream);
}

}  // namespace sparse_experts::cuda
