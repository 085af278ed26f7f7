// Router logits. The sum over the hidden size is cut into splits whose number depends on the hidden
// size alone, each summed in rising order, and the splits are added in rising order: so a row's
// logits have the same bits in every batch, and one token still fills the GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/launch_stream.h"
namespace sparse_experts::cuda {

int32_t router_splits(int64_t hidden_size);

// All give the same bits. kAuto takes the one that should be fastest. Rows in bf16 have two kernels: kTile, and
// one that both others stand for.
enum class RouterKernel : int32_t { kAuto, kRows1, kRows4, kTile };

struct RouterKernelArgs {
  const void* hidden;  // [num_tokens, hidden_size] f32, f16 or bf16
  int32_t hidden_dtype;
  int64_t hidden_stride;  // elements between rows
  const void* weight;     // [num_experts, hidden_size] f32, f16 or bf16, contiguous rows
  int32_t weight_dtype;
  int64_t weight_stride;
  int64_t num_tokens;
  int64_t num_experts;
  int64_t hidden_size;
  float* partials;  // out [router_splits(hidden_size), num_tokens, num_experts]
  RouterKernel kernel = RouterKernel::kAuto;
};
cudaError_t launch_router(const RouterKernelArgs& args, LaunchStream stream);

// The splits of router logits, as launch_router leaves them; num_splits 1 and no bias: plain logits.
struct SplitLogits {
  const float* partials;  // [num_splits, num_tokens, num_experts]
  int32_t num_splits;
  const float* bias;  // [num_experts] or null: added after the splits
};

// logits = sum of the splits + bias, [num_tokens, num_experts].
cudaError_t launch_router_sum(const SplitLogits& split, int64_t num_tokens, int64_t num_experts,
                              float* logits, LaunchStream stream);

// Gemma 4: rows = x / rms(x) * scale * hidden_size^-0.5, the mean square plus epsilon, f32.
struct RowNormArgs {
  const void* input;  // [num_tokens, hidden_size]
  int32_t input_dtype;
  int64_t input_stride;
  const float* scale;  // [hidden_size]
  double epsilon;
  double gain;
  int64_t num_tokens;
  int64_t hidden_size;
  float* rows;  // out [num_tokens, hidden_size]
};
cudaError_t launch_row_norm(const RowNormArgs& args, LaunchStream stream);

}  // namespace sparse_experts::cuda
