// Tensor maps: what the hardware of bulk copies knows of an array. The driver encodes them; its function
// is asked for at run time, so that nothing links the driver's library.
#pragma once

#include <cstdint>

namespace sparse_experts::cuda {

constexpr uint32_t kMostTensorRank = 5;

struct TensorDescription {
  int32_t dtype;  // f16 or bf16
  uint32_t rank;
  const void* address;                    // of the device, a multiple of 16
  uint64_t sizes[kMostTensorRank];        // elements, dimension 0 first, which is dense
  uint64_t strides[kMostTensorRank - 1];  // bytes between two elements of dimension 1, 2, …
  uint32_t box[kMostTensorRank];  // elements that a copy brings; dimension 0: 128 bytes, swizzled
};

// Writes 128 bytes. False where the driver has no such function or refuses: then nothing is written.
bool encode_tensor_map(const TensorDescription& tensor, void* map);

}  // namespace sparse_experts::cuda
