// A tensor as bulk copies see it: dimension 0 is the one whose elements lie side by side.
#pragma once

#include <cstdint>

namespace simt::detail {

constexpr uint32_t kMostRank = 5;

struct TensorMap {
  uint64_t dimensions[kMostRank] = {};
  uint64_t strides[kMostRank] = {};  // bytes between neighbours of a dimension; [0]: an element
  uint64_t address = 0;
  uint32_t box[kMostRank] = {};
  uint32_t rank = 0;
  uint32_t swizzle_bytes = 0;  // 32, 64, 128; 0: none

  uint32_t row_bytes() const { return static_cast<uint32_t>(box[0] * strides[0]); }
  // Rows of the box: all its dimensions but the first.
  uint32_t rows() const;
};

// False: the memory holds no map.
bool decode_tensor_map(const void* memory, TensorMap* map);

}  // namespace simt::detail
