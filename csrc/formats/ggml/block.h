// Blocks of ggml's tensor types, taken apart: codes, scales and offsets, which are what a kernel
// that computes on stored weights holds, and what decoding multiplies.
// NOTE: never include this from cpu/isa/ (see core/dtype.h).
#pragma once

#include <array>
#include <cstdint>

#include "formats/stored_types.h"

namespace sparse_experts {

constexpr int64_t kMaxGgmlElements = 256;
constexpr int64_t kMaxGgmlGroups = 16;

// Weight j of a block is, with g = j / group_size,
//   table[codes[j]] * (scale * scales[g])  [+ offset * offsets[g], where the type has offsets]
// each operation rounded to f32. The entries of `table` and of `scales` are exact in bf16; those of
// `offsets` are whole numbers below 64.
struct GgmlBlock {
  std::array<uint8_t, kMaxGgmlElements> codes;
  std::array<float, kMaxGgmlGroups> scales;
  std::array<float, kMaxGgmlGroups> offsets;  // unset where the type has none
  float scale;
  float offset;  // unset where the type has none
};

// How one type lays out its blocks. Bytes and elements of a block are in kStoredTypes.
struct GgmlLayout {
  StoredType type;
  int32_t code_bits;   // every code is below 1 << code_bits
  int32_t group_size;  // elements that share a scale
  bool has_offset;
  const float* table;  // [1 << code_bits]
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
