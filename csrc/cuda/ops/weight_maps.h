// Matrices as kernels with bulk copies see them: by a tensor map for each expert.
#pragma once

#include <cstdint>

namespace sparse_experts::cuda {

constexpr int64_t kWeightMapBytes = 128;
constexpr int32_t kNoMaps = -1;

// Experts' matrices of equal shape. The tables are host memory and hold addresses of the device; a null
// entry is an expert that is not here, whose map is never read.
struct WeightMatrices {
  int32_t dtype;            // f16 or bf16; kNoMaps: codes, which no kernel reads by maps
  int64_t count;            // 0: the question is whether sizes and strides can be described
  const void* const* gate;  // [count], or null: not gated
  const void* const* up;    // [count]
  bool gated;
  int64_t rows, cols;
  int64_t row_stride;  // elements
};

}  // namespace sparse_experts::cuda
