// Checks of a grouped matmul's arguments, and the way to its dtype's kernels.
#include "cuda/ops/expert_matmul.h"

#include <cstdint>

#include "abi/backend.h"
#include "cuda/ops/expert_matmul_kernels.h"

namespace sparse_experts::cuda {
namespace {

constexpr int64_t kMaxIndex = INT32_MAX;

bool group_is_valid(const ExpertMatmulKernelArgs& args, const MatmulGroup& group) {
  const bool gated = args.groups[0].gate != nullptr;
  return (group.gate != nullptr) == gated && group.up != nullptr && group.rows > 0 &&
         group.cols > 0 && group.rows <= kMaxIndex && group.cols <= kMaxIndex &&
         group.num_rows <= kMaxIndex && group.num_experts > 0 &&
         (group.expert_offsets != nullptr) == (group.tile_offsets != nullptr) &&
         (group.expert_offsets != nullptr || group.num_experts == 1) &&
         (group.x_index != RowIndex::kToken || group.top_k > 0) &&
         (group.out_dtype == SE_F32 || group.out_dtype == args.dtype);
}

}  // namespace

cudaError_t prepare_expert_matmul() {
  cudaError_t error = prepare_f32_expert_matmul();
  if (error == cudaSuccess) error = prepare_f16_expert_matmul();
  if (error == cudaSuccess) error = prepare_bf16_expert_matmul();
  return error;
}

cudaError_t launch_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                 cudaStream_t stream) {
  if (args.num_groups < 1 || args.num_groups > 2) return cudaErrorInvalidValue;
  // What lies between a gate and an up matrix is the activation.
  const bool gated = args.groups[0].gate != nullptr;
  if (gated && (args.apply_activation == 0 || args.activation.gated == 0)) {
    return cudaErrorInvalidValue;
  }
  if (!gated && args.apply_activation != 0 && args.activation.gated != 0) {
    return cudaErrorInvalidValue;
  }
  int64_t num_rows = 0;
  for (int32_t i = 0; i < args.num_groups; ++i) {
    if (!group_is_valid(args, args.groups[i])) return cudaErrorInvalidValue;
    num_rows += args.groups[i].num_rows;
  }
  if (num_rows <= 0) return cudaSuccess;
  switch (args.dtype) {
    case SE_F32:
      return launch_f32_expert_matmul(args, config, stream);
    case SE_F16:
      return launch_f16_expert_matmul(args, config, stream);
    case SE_BF16:
      return launch_bf16_expert_matmul(args, config, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace sparse_experts::cuda
