// Copies between the matmuls: dtype conversion, scaled gather of rows, pointer tables.
//
// Blocks walk a grid of (columns, rows): x covers the columns kCount per thread, y the rows, both
// in strides, so that no extent of the grid depends on a limit of the device.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/ops/elementwise.h"

namespace sparse_experts::cuda {

constexpr int kElementwiseThreads = 256;

template <typename From, typename To, int kCount>
__global__ void __launch_bounds__(kElementwiseThreads)
    convert_kernel(const From* from, int64_t from_stride, To* to, int64_t to_stride, int64_t rows,
                   int64_t cols) {
  await_launches();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * kCount;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kCount;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    for (int64_t column = first; column < cols; column += step) {
      float values[kCount];
      load_floats(from + row * from_stride + column, values);
      store_floats(to + row * to_stride + column, values);
    }
  }
}

template <typename T, int kCount>
__global__ void __launch_bounds__(kElementwiseThreads) scale_rows_kernel(ScaleRowsArgs args) {
  await_launches();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * kCount;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kCount;
  const int64_t num_sorted = *args.num_sorted < args.num_slots ? *args.num_sorted : args.num_slots;
  for (int64_t row = blockIdx.y; row < num_sorted; row += gridDim.y) {
    const int64_t slot = args.slots[row];
    const float weight = args.weights[slot];
    const T* from = static_cast<const T*>(args.from) + slot / args.top_k * args.from_stride;
    T* to = static_cast<T*>(args.to) + row * args.cols;
    for (int64_t column = first; column < args.cols; column += step) {
      float values[kCount];
      load_floats(from + column, values);
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[i] *= weight;
      store_floats(to + column, values);
    }
  }
}

static __global__ void __launch_bounds__(kElementwiseThreads)
    fill_table_kernel(const void* base, int64_t stride_bytes, int64_t count, const void** table) {
  await_launches();
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step)
    table[i] = static_cast<const char*>(base) + i * stride_bytes;
}

}  // namespace sparse_experts::cuda
