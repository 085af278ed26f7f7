#include "cuda/kernels/sm80/stored_expert_matmul.h"
#include "cuda/kernels/sm80/stored_expert_matmul_launch.cuh"

namespace sparse_experts::cuda {

cudaError_t prepare_bf16_i8_expert_matmul(const DeviceLimits& limits) {
  return prepare_stored_expert_matmul<Bf16, Integers>(limits);
}

cudaError_t launch_bf16_i8_expert_matmul(const ExpertMatmulKernelArgs& args,
                                         const MatmulConfig& config, LaunchStream stream) {
  return launch_stored_expert_matmul<Bf16, Integers>(args, config, stream);
}

}  // namespace sparse_experts::cuda
