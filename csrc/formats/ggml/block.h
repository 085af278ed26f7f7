// Blocks of ggml's tensor types, taken apart into codes, scales and offsets as SeMatrixFormat has
// them: what a kernel that computes on stored weights holds, and what decoding multiplies.
// NOTE: never include this from cpu/isa/ (see core/dtype.h).
#pragma once

#include <array>
#include <cstdint>

#include "abi/enums.h"
#include "formats/stored_types.h"

namespace sparse_experts {

constexpr int64_t kMaxGgmlElements = 256;
constexpr int64_t kMaxGgmlScaleBytes = 16;

// One block. What a type does not have is left as it was.
struct GgmlBlock {
  std::array<uint8_t, kMaxGgmlElements> codes;      // a byte each
  std::array<uint8_t, kMaxGgmlScaleBytes> scales;   // of each group, in the layout's SeScale
  std::array<uint8_t, kMaxGgmlScaleBytes> offsets;  // of each group, in the layout's SeOffset
  uint16_t super_scale;   // f16, of the whole block, where scales are SE_SCALE_U8 or SE_SCALE_I8
  uint16_t super_offset;  // f16, of the whole block, where offsets are SE_OFFSET_U8
};

// How one type lays out its blocks. Bytes and elements of a block are in kStoredTypes.
struct GgmlLayout {
  StoredType type;
  int32_t code;        // SeMatrixCode
  int32_t table;       // SeValueTable
  int32_t scale;       // SeScale
  int32_t offset;      // SeOffset
  int32_t group_size;  // elements that share a scale
  // Reads exactly one block. Every byte pattern is a block.
  void (*unpack)(const uint8_t* from, GgmlBlock* to);
};

// NULL for types that are none of ggml's blocks.
const GgmlLayout* ggml_layout(StoredType type);

// The layouts, one file per kind.
extern const std::array<GgmlLayout, 6> kGgmlPlainLayouts;  // a scale for 32 elements
extern const std::array<GgmlLayout, 6>
    kGgmlSuperLayouts;                                    // blocks of 256, scales of small integers
extern const std::array<GgmlLayout, 7> kGgmlGridLayouts;  // points of a grid instead of elements
extern const std::array<GgmlLayout, 2> kGgmlFloatLayouts;  // e2m1 with scales that are floats

}  // namespace sparse_experts
