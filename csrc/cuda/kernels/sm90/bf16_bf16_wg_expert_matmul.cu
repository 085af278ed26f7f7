#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/kernels/sm90/wg_expert_matmul_launch.cuh"

namespace sparse_experts::cuda {

cudaError_t prepare_bf16_wg_expert_matmul(const DeviceLimits& /*limits*/) {
  return prepare_wg_expert_matmul<Bf16>();
}

cudaError_t launch_bf16_wg_expert_matmul(const ExpertMatmulKernelArgs& args,
                                         const MatmulConfig& config, LaunchStream stream) {
  return launch_wg_expert_matmul<Bf16>(args, config, stream);
}

}  // namespace sparse_experts::cuda
