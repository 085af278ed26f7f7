// Generated from spec/enums.json by tools/build/spec.mjs: do not edit.
// The names of abi/enums.h as users write them, and what explain() says of a value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/enums.h"

namespace sparse_experts {

struct EnumName {
  const char* name;
  int32_t value;
  const char* explanation = nullptr;
};

// The row of a value; NULL for a number that is none.
template <size_t kSize>
constexpr const EnumName* find_name(const EnumName (&names)[kSize], int32_t value) {
  for (const EnumName& row : names) {
    if (row.value == value) return &row;
  }
  return nullptr;
}

constexpr EnumName kDtypeNames[] = {
    {"f32", SE_F32}, {"f16", SE_F16}, {"bf16", SE_BF16}, {"i32", SE_I32}, {"u8", SE_U8},
};

constexpr EnumName kMatrixCodeNames[] = {
    {"f32", SE_CODE_F32},
    {"f16", SE_CODE_F16},
    {"bf16", SE_CODE_BF16},
};

constexpr EnumName kValueTableNames[] = {
    {"none", SE_TABLE_NONE},
};

constexpr EnumName kScaleNames[] = {
    {"none", SE_SCALE_NONE},
};

constexpr EnumName kOffsetNames[] = {
    {"none", SE_OFFSET_NONE},
};

constexpr EnumName kFormatSupportNames[] = {
    {"no", SE_FORMAT_NO},
    {"as is", SE_FORMAT_AS_IS},
    {"converted", SE_FORMAT_CONVERTED},
};

constexpr EnumName kScoringNames[] = {
    {"softmax", SE_SOFTMAX, "softmax, then top-k"},
    {"sigmoid", SE_SIGMOID, "sigmoid, then top-k"},
    {"sqrtsoftplus", SE_SQRT_SOFTPLUS, "sqrt(softplus), then top-k"},
    {"topk_softmax", SE_TOPK_SOFTMAX, "top-k, then softmax"},
    {"topk_sigmoid", SE_TOPK_SIGMOID, "top-k, then sigmoid"},
    {"sparsemixer", SE_SPARSEMIXER, "sparsemixer"},
};

constexpr EnumName kGroupScoreNames[] = {
    {"max", SE_GROUP_MAX},
    {"top2_sum", SE_GROUP_TOP2_SUM},
};

constexpr EnumName kNormalizationNames[] = {
    {"none", SE_NORM_NONE},
    {"sum", SE_NORM_SUM},
    {"floor", SE_NORM_FLOOR},
    {"p", SE_NORM_P},
};

constexpr EnumName kCapacityNames[] = {
    {"per_sequence", SE_CAPACITY_PER_SEQUENCE},
    {"batch", SE_CAPACITY_BATCH},
};

constexpr EnumName kActivationNames[] = {
    {"silu", SE_SILU}, {"gelu", SE_GELU},   {"gelu_pytorch_tanh", SE_GELU_TANH},
    {"relu", SE_RELU}, {"relu2", SE_RELU2}, {"identity", SE_IDENTITY},
    {"situ", SE_SITU},
};

constexpr EnumName kSharedGateNames[] = {
    {"plain", SE_SHARED_PLAIN},
    {"sigmoid", SE_SHARED_SIGMOID},
    {"mix", SE_SHARED_MIX},
};

// Bits of one code; 0 for a number that is none.
constexpr int64_t code_bits(int32_t code) {
  if (code == SE_CODE_F32) return 32;
  if (code == SE_CODE_F16) return 16;
  if (code == SE_CODE_BF16) return 16;
  return 0;
}

// Scores over all router outputs come first: groups, a selection bias and hash routing may follow.
constexpr bool is_scored(int32_t scoring) {
  return scoring == SE_SOFTMAX || scoring == SE_SIGMOID || scoring == SE_SQRT_SOFTPLUS;
}

}  // namespace sparse_experts
