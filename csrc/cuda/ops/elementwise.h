// Small kernels between the matmuls.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "abi/backend.h"
#include "cuda/ops/launch_stream.h"

namespace sparse_experts::cuda {

// [rows, cols] from one float dtype to another, rounded once.
struct ConvertArgs {
  const void* from;
  int32_t from_dtype;
  int64_t from_stride;  // elements
  void* to;
  int32_t to_dtype;
  int64_t to_stride;
  int64_t rows;
  int64_t cols;
};
cudaError_t launch_convert(const ConvertArgs& args, LaunchStream stream);

// Llama 4: to[i] = weights[slots[i]] * from[slots[i] / top_k] for i < *num_sorted, in f32, rounded
// to dtype. to is [num_slots, cols].
struct ScaleRowsArgs {
  const void* from;
  int64_t from_stride;
  void* to;
  int32_t dtype;
  const float* weights;       // [num_slots]
  const int32_t* slots;       // [num_slots] sorted
  const int32_t* num_sorted;  // device: expert_offsets + num_experts
  int64_t num_slots;
  int64_t top_k;
  int64_t cols;
};
cudaError_t launch_scale_rows(const ScaleRowsArgs& args, LaunchStream stream);

// table[e] = base + e * stride_bytes.
cudaError_t launch_fill_table(const void* base, int64_t stride_bytes, int64_t count,
                              const void** table, LaunchStream stream);

}  // namespace sparse_experts::cuda
