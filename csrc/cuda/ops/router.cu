// Which router kernel a call takes. By the dtype of its rows on tensor cores or not; all kernels for one give
// the same bits, so the rest of the choice may depend on anything.
#include <algorithm>

#include "core/numeric.h"
#include "cuda/common/launch.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/kernels/any/router_norm.cuh"
#include "cuda/kernels/any/router_rows.cuh"
#include "cuda/kernels/any/router_tile.cuh"
#include "cuda/kernels/sm80/router_mma.cuh"
#include "cuda/ops/router.h"

namespace sparse_experts::cuda {
namespace {

constexpr int64_t kMaxSplits = 16;
constexpr int64_t kFewTiles = 216;  // fewer leave a large GPU idle: a tile alone takes 20 us
constexpr int64_t kMaxSumBlocks = 4096;

// Columns of one split: whole panels. Of the hidden size alone.
int64_t router_split_columns(int64_t hidden_size) {
  return std::max<int64_t>(1, ceil_div(hidden_size, kRouterPanel * kMaxSplits)) * kRouterPanel;
}

template <typename... Parameters>
cudaError_t launch_tiles(void (*kernel)(Parameters...), int64_t tile_tokens, int64_t tile_experts,
                         size_t shared_bytes, const RouterKernelArgs& args, LaunchStream stream) {
  RouterShape shape = {};
  shape.expert_tiles = ceil_div(args.num_experts, tile_experts);
  shape.split_columns = router_split_columns(args.hidden_size);
  const auto vectors = [](const void* data, int64_t stride, int32_t dtype) {
    const int64_t bytes = dtype == SE_F32 ? 4 : 2;
    return is_vector_aligned(data, stride, bytes, 16 / bytes);
  };
  shape.hidden_vectors = vectors(args.hidden, args.hidden_stride, args.hidden_dtype);
  shape.weight_vectors = vectors(args.weight, args.weight_stride, args.weight_dtype);
  shape.logit_vectors = is_vector_aligned(args.partials, args.num_experts, 4, 4);
  const int64_t token_tiles = ceil_div(args.num_tokens, tile_tokens);
  if (token_tiles > INT32_MAX / shape.expert_tiles) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(token_tiles * shape.expert_tiles),
                  static_cast<unsigned>(router_splits(args.hidden_size)));
  return launch(kernel, grid, dim3(kRouterThreads), shared_bytes, stream, args, shape);
}

// Whether tiles of that size are at least half full, and fill the GPU.
bool has_full_tiles(const RouterKernelArgs& args, int64_t tokens, int64_t experts) {
  const int64_t tiles = ceil_div(args.num_tokens, tokens) * ceil_div(args.num_experts, experts);
  return args.num_tokens * args.num_experts * 2 >= tiles * tokens * experts &&
         tiles * router_splits(args.hidden_size) >= kFewTiles;
}

RouterKernel choose_kernel(const RouterKernelArgs& args) {
  if (args.kernel != RouterKernel::kAuto) return args.kernel;
  if (args.num_tokens <= kRouterRowsWarps) return RouterKernel::kRows1;
  return has_full_tiles(args, kRouterTile, kRouterTile) ? RouterKernel::kTile
                                                        : RouterKernel::kRows4;
}

template <typename Hidden, typename Weight>
cudaError_t launch_typed(const RouterKernelArgs& args, LaunchStream stream) {
  switch (choose_kernel(args)) {
    case RouterKernel::kRows1:
      return launch_tiles(router_rows_kernel<Hidden, Weight, 1>, kRouterRowsWarps,
                          kRouterRowsExperts, router_rows_shared_bytes<Hidden, Weight, 1>(), args,
                          stream);
    case RouterKernel::kRows4:
      return launch_tiles(router_rows_kernel<Hidden, Weight, 4>, 4 * kRouterRowsWarps,
                          kRouterRowsExperts, router_rows_shared_bytes<Hidden, Weight, 4>(), args,
                          stream);
    default:
      return launch_tiles(router_tile_kernel<Hidden, Weight>, kRouterTile, kRouterTile,
                          kRouterTileSharedBytes, args, stream);
  }
}

template <typename Weight, int kTokens, int kExperts>
cudaError_t launch_mma_tiles(const RouterKernelArgs& args, LaunchStream stream) {
  return launch_tiles(router_mma_kernel<Weight, kTokens, kExperts>, kTokens, kExperts,
                      RouterMmaTile<kTokens, kExperts>::kSharedBytes, args, stream);
}

// On tensor cores: one small tile and a large one.
template <typename Weight>
cudaError_t launch_mma(const RouterKernelArgs& args, LaunchStream stream) {
  constexpr int kTokens = 32;
  constexpr int kExperts = 32;
  const bool large =
      args.kernel == RouterKernel::kTile ||
      (args.kernel == RouterKernel::kAuto && has_full_tiles(args, kTokens, kExperts));
  return large ? launch_mma_tiles<Weight, kTokens, kExperts>(args, stream)
               : launch_mma_tiles<Weight, 16, 8>(args, stream);
}

template <typename Hidden, typename Weight>
cudaError_t launch_pair(const RouterKernelArgs& args, LaunchStream stream) {
  if constexpr (DtypeOf<Hidden>::value == SE_BF16) {
    return launch_mma<Weight>(args, stream);
  } else {
    return launch_typed<Hidden, Weight>(args, stream);
  }
}

template <typename Hidden>
cudaError_t launch_weights(const RouterKernelArgs& args, LaunchStream stream) {
  switch (args.weight_dtype) {
    case SE_F32:
      return launch_pair<Hidden, float>(args, stream);
    case SE_F16:
      return launch_pair<Hidden, F16>(args, stream);
    case SE_BF16:
      return launch_pair<Hidden, Bf16>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

int32_t router_splits(int64_t hidden_size) {
  return static_cast<int32_t>(
      std::max<int64_t>(1, ceil_div(hidden_size, router_split_columns(hidden_size))));
}

cudaError_t launch_router(const RouterKernelArgs& args, LaunchStream stream) {
  if (args.num_tokens == 0 || args.num_experts == 0) return cudaSuccess;
  switch (args.hidden_dtype) {
    case SE_F32:
      return launch_weights<float>(args, stream);
    case SE_F16:
      return launch_weights<F16>(args, stream);
    case SE_BF16:
      return launch_weights<Bf16>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t launch_router_sum(const SplitLogits& split, int64_t num_tokens, int64_t num_experts,
                              float* logits, LaunchStream stream) {
  const int64_t size = num_tokens * num_experts;
  if (size == 0) return cudaSuccess;
  const int64_t blocks = std::min(ceil_div(size, kRouterSumThreads), kMaxSumBlocks);
  return launch(router_sum_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kRouterSumThreads), 0,
                stream, split, size, num_experts, logits);
}

cudaError_t launch_row_norm(const RowNormArgs& args, LaunchStream stream) {
  if (args.num_tokens == 0) return cudaSuccess;
  if (args.num_tokens > INT32_MAX) return cudaErrorInvalidValue;
  return launch(row_norm_kernel, dim3(static_cast<unsigned>(args.num_tokens)),
                dim3(kRowNormThreads), 0, stream, args);
}

}  // namespace sparse_experts::cuda
