// Tensor maps: encoded by the host under the driver's conditions, decoded by bulk copies. The layout
// of the opaque words is our own.
#include "tensor_map.h"

#include <cstring>

#include "cuda.h"

namespace simt::detail {
namespace {

constexpr uint64_t kMagic = 0x70616d726f736e65u;
constexpr uint64_t kMostStride = uint64_t{1} << 40;
constexpr uint64_t kMostDimension = uint64_t{1} << 32;
constexpr uint32_t kMostBox = 256;

// Strides are multiples of 16 bytes below 2^40, boxes at most 256: both fit into one word.
struct Words {
  uint64_t magic;
  uint64_t address;
  uint64_t fields;  // rank, swizzle bytes, element bytes
  uint64_t dimensions[kMostRank];
  uint64_t strides_and_boxes[kMostRank];
  uint64_t spare[3];
};
static_assert(sizeof(Words) == sizeof(CUtensorMap), "a map has 128 bytes");

uint32_t element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
      return 8;
  }
  return 0;
}

uint32_t swizzle_width(CUtensorMapSwizzle swizzle) {
  switch (swizzle) {
    case CU_TENSOR_MAP_SWIZZLE_32B:
      return 32;
    case CU_TENSOR_MAP_SWIZZLE_64B:
      return 64;
    case CU_TENSOR_MAP_SWIZZLE_128B:
      return 128;
    default:
      return 0;
  }
}

}  // namespace

uint32_t TensorMap::rows() const {
  uint32_t rows = 1;
  for (uint32_t i = 1; i < rank; ++i) rows *= box[i];
  return rows;
}

bool decode_tensor_map(const void* memory, TensorMap* map) {
  Words words;
  std::memcpy(&words, memory, sizeof words);
  if (words.magic != kMagic) return false;
  *map = TensorMap();
  map->address = words.address;
  map->rank = static_cast<uint32_t>(words.fields & 0xffu);
  map->swizzle_bytes = static_cast<uint32_t>(words.fields >> 8 & 0xffu);
  map->strides[0] = words.fields >> 16;
  for (uint32_t i = 0; i < map->rank; ++i) {
    map->dimensions[i] = words.dimensions[i];
    map->box[i] = static_cast<uint32_t>(words.strides_and_boxes[i] & 0xffffu);
    if (i > 0) map->strides[i] = (words.strides_and_boxes[i] >> 16) * 16;
  }
  return true;
}

}  // namespace simt::detail

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                void* address, const cuuint64_t* dimensions,
                                const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill) {
  using namespace simt::detail;
  const uint64_t element = element_bytes(type);
  const uint32_t width = swizzle_width(swizzle);
  if (map == nullptr || reinterpret_cast<uintptr_t>(map) % 64 != 0 || element == 0 || rank < 1 ||
      rank > kMostRank || address == nullptr || reinterpret_cast<uintptr_t>(address) % 16 != 0 ||
      dimensions == nullptr || (rank > 1 && strides == nullptr) || box == nullptr ||
      element_strides == nullptr || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
      swizzle > CU_TENSOR_MAP_SWIZZLE_128B || promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B ||
      fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Words words = {};
  words.magic = kMagic;
  words.address = reinterpret_cast<uint64_t>(address);
  words.fields = rank | width << 8 | element << 16;
  for (cuuint32_t i = 0; i < rank; ++i) {
    // Steps within the box exist in hardware; nobody here uses them.
    if (dimensions[i] == 0 || dimensions[i] > kMostDimension || box[i] == 0 || box[i] > kMostBox ||
        element_strides[i] != 1) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    words.dimensions[i] = dimensions[i];
    words.strides_and_boxes[i] = box[i];
    if (i == 0) continue;
    const uint64_t stride = strides[i - 1];
    if (stride % 16 != 0 || stride >= kMostStride) return CUDA_ERROR_INVALID_VALUE;
    words.strides_and_boxes[i] |= stride / 16 << 16;
  }
  const uint64_t row_bytes = box[0] * element;
  if (row_bytes % 16 != 0 || (width != 0 && row_bytes > width)) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(map, &words, sizeof words);
  return CUDA_SUCCESS;
}
