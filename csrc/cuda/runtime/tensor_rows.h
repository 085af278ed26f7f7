// Rows of a host tensor, which may lie apart.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/dtype.h"

namespace sparse_experts::cuda {

inline int64_t row_bytes(const SeTensor& tensor) {
  return tensor.shape[1] * dtype_bytes(tensor.dtype);
}

inline bool is_dense(const SeTensor& tensor) {
  return tensor.shape[0] == 1 || tensor.strides[0] == tensor.shape[1];
}

// Row t.
inline char* row_of(const SeTensor& tensor, int64_t t) {
  return static_cast<char*>(tensor.data) + t * tensor.strides[0] * dtype_bytes(tensor.dtype);
}

}  // namespace sparse_experts::cuda
