#include "cuda/kernels/matmul_half_launch.cuh"

namespace sparse_experts::cuda {

cudaError_t prepare_matmul_bf16() { return prepare_matmul_half<Bf16>(); }

cudaError_t launch_matmul_bf16(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                               cudaStream_t stream) {
  return launch_matmul_half<Bf16>(args, config, stream);
}

}  // namespace sparse_experts::cuda
