// Checks of a grouped matmul's arguments, and the way to the variant that runs it.
#include "cuda/ops/expert_matmul.h"

#include <cstdint>
#include <cstdio>
#include <vector>

#include "abi/backend.h"
#include "cuda/variants.h"

namespace sparse_experts::cuda {
namespace {

constexpr int64_t kMaxIndex = INT32_MAX;

bool group_is_valid(const ExpertMatmulKernelArgs& args, const MatmulGroup& group) {
  const bool gated = args.groups[0].gate != nullptr;
  return (group.gate != nullptr) == gated && group.up != nullptr && group.rows > 0 &&
         group.cols > 0 && group.rows <= kMaxIndex && group.cols <= kMaxIndex &&
         group.num_rows <= kMaxIndex && group.num_experts > 0 &&
         (group.tiles != nullptr) == (group.num_tiles != nullptr) &&
         (group.tiles != nullptr || group.num_experts == 1) &&
         (group.x_index != RowIndex::kToken || group.top_k > 0) &&
         (group.out_dtype == SE_F32 || group.out_dtype == args.dtype);
}

}  // namespace

MatmulConfig choose_matmul(const MatmulShape& shape, const DeviceLimits& limits) {
  const int32_t number = find_matmul_variant(shape, limits);
  MatmulConfig config;
  if (number >= 0) config = matmul_variant(number)->choose(shape, limits);
  config.variant = number;
  return config;
}

std::vector<MatmulConfig> list_matmul_configs(const MatmulShape& shape,
                                              const DeviceLimits& limits) {
  std::vector<MatmulConfig> configs;
  const MatmulVariants table = matmul_variants();
  for (int32_t i = 0; i < table.count; ++i) {
    const MatmulVariant& row = table.rows[i];
    if (!runs_on_device(row, limits) || !is_of_dtypes(row, shape.dtype, shape.stored)) continue;
    for (MatmulConfig config : row.list(shape, limits)) {
      config.variant = i;
      configs.push_back(config);
    }
  }
  return configs;
}

void describe_matmul(const MatmulConfig& config, char* text, uint64_t size) {
  const MatmulVariant* variant = matmul_variant(config.variant);
  if (variant == nullptr) {
    std::snprintf(text, size, "none");
    return;
  }
  variant->describe(variant->name, config, text, size);
}

cudaError_t prepare_expert_matmul(const DeviceLimits& limits) {
  for (const MatmulVariant& variant : matmul_variants()) {
    if (variant.prepare == nullptr || !runs_on_device(variant, limits)) continue;
    const cudaError_t error = variant.prepare(limits);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t launch_expert_matmul(const ExpertMatmulKernelArgs& args, const MatmulConfig& config,
                                 LaunchStream stream) {
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
  const MatmulVariant* variant = matmul_variant(config.variant);
  if (variant == nullptr) return cudaErrorInvalidValue;
  for (int32_t i = 0; i < args.num_groups; ++i) {
    if (!is_of_dtypes(*variant, args.dtype, args.stored[i])) return cudaErrorInvalidValue;
  }
  return variant->launch(args, config, stream);
}

}  // namespace sparse_experts::cuda
