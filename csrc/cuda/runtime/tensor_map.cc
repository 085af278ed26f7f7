#include "cuda/runtime/tensor_map.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstring>

#include "abi/backend.h"

namespace sparse_experts::cuda {
namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

EncodeTiled find_encoder() {
#if defined(SIMT_EMULATOR)
  return &cuTensorMapEncodeTiled;
#else
  constexpr const char* kName = "cuTensorMapEncodeTiled";
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(kName, &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(kName, &function, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  return found == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeTiled>(function) : nullptr;
#endif
}

}  // namespace

bool encode_tensor_map(const TensorDescription& tensor, void* map) {
  static const EncodeTiled encode = find_encoder();
  if (encode == nullptr) return false;
  const CUtensorMapDataType type =
      tensor.dtype == SE_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const cuuint32_t element_strides[kMostTensorRank] = {1, 1, 1, 1, 1};
  cuuint64_t sizes[kMostTensorRank];
  cuuint64_t strides[kMostTensorRank] = {};
  for (uint32_t i = 0; i < tensor.rank; ++i) {
    sizes[i] = tensor.sizes[i];
    if (i > 0) strides[i - 1] = tensor.strides[i - 1];
  }
  CUtensorMap encoded;
  // What is read once from memory comes in as large pieces as L2 has.
  const CUresult result =
      encode(&encoded, type, tensor.rank, const_cast<void*>(tensor.address), sizes, strides,
             tensor.box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return false;
  std::memcpy(map, &encoded, sizeof encoded);
  return true;
}

}  // namespace sparse_experts::cuda
