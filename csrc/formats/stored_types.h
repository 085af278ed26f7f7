// Generated from spec/formats.json by tools/build/spec.mjs: do not edit.
// Elements of stored tensors, and the formats in which checkpoints store a matrix.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "abi/enums.h"

namespace sparse_experts {

enum class StoredType : int32_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kI8,
  kU8,
  kI32,
  kI64,
  kQ4V0,
  kQ4V1,
  kQ5V0,
  kQ5V1,
  kQ8V0,
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K,
  kIQ2XXS,
  kIQ2XS,
  kIQ3XXS,
  kIQ1S,
  kIQ4NL,
  kIQ3S,
  kIQ2S,
  kIQ4XS,
  kIQ1M,
  kMXFP4,
  kNVFP4
};

struct StoredTypeRow {
  const char* name;  // as safetensors and ggml spell it
  int64_t bytes;     // of one block
  int64_t elements;  // in one block
};

// By StoredType.
constexpr StoredTypeRow kStoredTypes[] = {
    {"F32", 4, 1},        {"F16", 2, 1},       {"BF16", 2, 1},       {"F8_E4M3", 1, 1},
    {"F8_E5M2", 1, 1},    {"F8_E8M0", 1, 1},   {"I8", 1, 1},         {"U8", 1, 1},
    {"I32", 4, 1},        {"I64", 8, 1},       {"Q4_0", 18, 32},     {"Q4_1", 20, 32},
    {"Q5_0", 22, 32},     {"Q5_1", 24, 32},    {"Q8_0", 34, 32},     {"Q2_K", 84, 256},
    {"Q3_K", 110, 256},   {"Q4_K", 144, 256},  {"Q5_K", 176, 256},   {"Q6_K", 210, 256},
    {"IQ2_XXS", 66, 256}, {"IQ2_XS", 74, 256}, {"IQ3_XXS", 98, 256}, {"IQ1_S", 50, 256},
    {"IQ4_NL", 18, 32},   {"IQ3_S", 110, 256}, {"IQ2_S", 82, 256},   {"IQ4_XS", 136, 256},
    {"IQ1_M", 56, 256},   {"MXFP4", 17, 32},   {"NVFP4", 36, 64},
};

constexpr bool is_stored_type(StoredType type) {
  return type >= StoredType::kF32 && type <= StoredType::kNVFP4;
}

// Bytes of one element; where elements are stored in blocks, of one block.
constexpr int64_t stored_type_bytes(StoredType type) {
  return is_stored_type(type) ? kStoredTypes[static_cast<int32_t>(type)].bytes : 0;
}

// Elements of one block; 1 where each is stored by itself.
constexpr int64_t stored_type_elements(StoredType type) {
  return is_stored_type(type) ? kStoredTypes[static_cast<int32_t>(type)].elements : 0;
}

// The elements of a dtype, as they are stored.
constexpr StoredType stored_type_of(int32_t dtype) {
  return dtype == SE_F32   ? StoredType::kF32
         : dtype == SE_F16 ? StoredType::kF16
                           : StoredType::kBF16;
}

// A set of StoredTypes.
using StoredTypes = uint64_t;
constexpr StoredTypes types_of(std::initializer_list<StoredType> types) {
  StoredTypes set = 0;
  for (const StoredType type : types) set |= uint64_t{1} << static_cast<uint32_t>(type);
  return set;
}
constexpr bool contains(StoredTypes set, StoredType type) {
  return is_stored_type(type) && (set >> static_cast<uint32_t>(type) & 1) != 0;
}

enum class Codec : int32_t {
  // elements as they are, [rows, cols] or transposed; a scale per block where there is one,
  // multiplied (U8: the bytes of e8m0)
  kFloat,
  // two per byte, low nibble first: [rows, cols/2], or transposed; a scale per block in e8m0
  // (or its bytes) or e4m3; a scale of the whole matrix where there is one
  kE2M1,
  // compressed-tensors, 2, 4 or 8 bit: I32 [rows, ceil(cols*bits/32)], offset 2^(bits-1); zero
  // points packed along rows; a group per column where there is one
  kPackedInt,
  // 4 bit, input-major: I32 [cols, rows/8], nibble order 0,4,1,5,2,6,3,7; zero points I32
  // [groups, rows/8] where there are some, scales [groups, rows]; unsigned around 8, or signed
  kAwq,
  // 2, 3, 4 or 8 bit without gaps, input-major: I32 [cols*bits/32, rows]; zero points I32
  // [groups, rows*bits/32] where there are some, scales [groups, rows]; a group per column
  // where there is one
  kGptq,
  // one signed byte each, [rows, cols]; a scale per block; zero points I8 where there are
  // some, one per scale; a group per column where there is one
  kInt8,
  // blocks of a GGUF file's type, which hold their scales, [rows, cols / elements of a block];
  // NVFP4: a scale of the whole matrix where there is one
  kGgml,
  // ModelOpt's int4: two rows to a byte, the even one in the lower nibble, two's complement:
  // U8 [rows/2, cols]; a scale per block
  kInt4Rows,
};

struct CodecRow {
  const char* name;
  StoredTypes data;
  StoredTypes scale;
  bool has_zero_point;
  bool has_group_index;
  bool has_global_scale;
  bool has_column_scale;
  bool is_input_major;   // scales and zero points lie along the rows of the matrix
  bool has_zero_offset;  // files may store the zero point minus one
  bool is_scale_optional;
  bool has_signs;  // elements may be two's complement
};

// By Codec.
constexpr CodecRow kCodecs[] = {
    {"float",
     types_of({StoredType::kF32, StoredType::kF16, StoredType::kBF16, StoredType::kF8E4M3,
               StoredType::kF8E5M2}),
     types_of({StoredType::kF32, StoredType::kF16, StoredType::kBF16, StoredType::kF8E8M0,
               StoredType::kU8}),
     false, false, false, true, false, false, true, false},
    {"e2m1", types_of({StoredType::kU8, StoredType::kI8}),
     types_of({StoredType::kF8E8M0, StoredType::kU8, StoredType::kF8E4M3}), false, false, true,
     true, false, false, false, false},
    {"packedInt", types_of({StoredType::kI32}),
     types_of({StoredType::kF32, StoredType::kF16, StoredType::kBF16}), true, true, false, true,
     false, false, false, false},
    {"awq", types_of({StoredType::kI32}),
     types_of({StoredType::kF32, StoredType::kF16, StoredType::kBF16}), true, false, false, true,
     true, false, false, true},
    {"gptq", types_of({StoredType::kI32}),
     types_of({StoredType::kF32, StoredType::kF16, StoredType::kBF16}), true, true, false, true,
     true, true, false, false},
    {"int8", types_of({StoredType::kI8}),
     types_of({StoredType::kF32, StoredType::kF16, StoredType::kBF16}), true, true, false, true,
     false, false, false, false},
    {"ggml",
     types_of({StoredType::kQ4V0,   StoredType::kQ4V1,  StoredType::kQ5V0,   StoredType::kQ5V1,
               StoredType::kQ8V0,   StoredType::kQ2K,   StoredType::kQ3K,    StoredType::kQ4K,
               StoredType::kQ5K,    StoredType::kQ6K,   StoredType::kIQ2XXS, StoredType::kIQ2XS,
               StoredType::kIQ3XXS, StoredType::kIQ1S,  StoredType::kIQ4NL,  StoredType::kIQ3S,
               StoredType::kIQ2S,   StoredType::kIQ4XS, StoredType::kIQ1M,   StoredType::kMXFP4,
               StoredType::kNVFP4}),
     types_of({}), false, false, true, false, false, false, true, false},
    {"int4Rows", types_of({StoredType::kU8}),
     types_of({StoredType::kF32, StoredType::kF16, StoredType::kBF16}), false, false, false, true,
     false, false, false, false},
};
constexpr int32_t kNumCodecs = 8;

}  // namespace sparse_experts
