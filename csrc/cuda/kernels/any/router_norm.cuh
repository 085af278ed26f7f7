// The sum of the splits of the router's matrix product; and the norm of rows: Gemma 4's of what the
// router reads, Kimi-K3's of the latent sum.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/kernels/any/router_splits.cuh"

namespace sparse_experts::cuda {

constexpr int kRouterSumThreads = 256;
constexpr int kRowNormThreads = 256;

// Bytes: (splits + 1) * 4 per logit.
__global__ void __launch_bounds__(kRouterSumThreads)
    router_sum_kernel(SplitLogits split, int64_t size, int64_t num_experts, float* logits) {
  await_launches();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kRouterSumThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kRouterSumThreads + threadIdx.x; i < size;
       i += stride)
    logits[i] = load_logit(split, size, i, i % num_experts);
}

// One block per row, always of the same size, so that the order of the sum is fixed. Squares and
// factor in double, as in the CPU backend. Rows may be written where they were read.
__global__ void __launch_bounds__(kRowNormThreads) row_norm_kernel(RowNormArgs args) {
  await_launches();
  SE_SHARED(double, partials, 32);
  const int64_t row = blockIdx.x;
  const int64_t from = row * args.input_stride;
  double squares = 0;
  for (int64_t i = threadIdx.x; i < args.hidden_size; i += kRowNormThreads) {
    float value[1];
    load_floats_of(args.input, args.input_dtype, from + i, value);
    squares += static_cast<double>(value[0]) * static_cast<double>(value[0]);
  }
  squares = block_sum(squares, partials);
  const double size = static_cast<double>(args.hidden_size);
  const double factor = args.gain / sqrt(squares / size + args.epsilon);
  for (int64_t i = threadIdx.x; i < args.hidden_size; i += kRowNormThreads) {
    float value[1];
    load_floats_of(args.input, args.input_dtype, from + i, value);
    args.rows[row * args.hidden_size + i] = static_cast<float>(
        static_cast<double>(value[0]) * factor * static_cast<double>(args.scale[i]));
  }
}

}  // namespace sparse_experts::cuda
