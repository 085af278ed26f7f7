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
    {"f32", SE_CODE_F32}, {"f16", SE_CODE_F16},   {"bf16", SE_CODE_BF16}, {"u2", SE_CODE_U2},
    {"u3", SE_CODE_U3},   {"u4", SE_CODE_U4},     {"u5", SE_CODE_U5},     {"u6", SE_CODE_U6},
    {"i8", SE_CODE_I8},   {"e4m3", SE_CODE_E4M3},
};

constexpr EnumName kValueTableNames[] = {
    {"none", SE_TABLE_NONE},   {"q", SE_TABLE_Q},       {"q-2", SE_TABLE_Q2},
    {"q-4", SE_TABLE_Q4},      {"q-8", SE_TABLE_Q8},    {"q-16", SE_TABLE_Q16},
    {"q-32", SE_TABLE_Q32},    {"e2m1", SE_TABLE_E2M1}, {"iq4_nl", SE_TABLE_IQ4_NL},
    {"iq1", SE_TABLE_IQ1},     {"iq2", SE_TABLE_IQ2},   {"iq3_xxs", SE_TABLE_IQ3_XXS},
    {"iq3_s", SE_TABLE_IQ3_S},
};

constexpr EnumName kScaleNames[] = {
    {"none", SE_SCALE_NONE}, {"f32", SE_SCALE_F32},   {"f16", SE_SCALE_F16},
    {"bf16", SE_SCALE_BF16}, {"e8m0", SE_SCALE_E8M0}, {"e4m3", SE_SCALE_E4M3},
    {"u8", SE_SCALE_U8},     {"i8", SE_SCALE_I8},
};

constexpr EnumName kOffsetNames[] = {
    {"none", SE_OFFSET_NONE},
    {"zero", SE_OFFSET_ZERO},
    {"f16", SE_OFFSET_F16},
    {"u8", SE_OFFSET_U8},
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
    {"top2_sum_zeroed", SE_GROUP_TOP2_SUM_ZEROED},
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
  if (code == SE_CODE_U2) return 2;
  if (code == SE_CODE_U3) return 3;
  if (code == SE_CODE_U4) return 4;
  if (code == SE_CODE_U5) return 5;
  if (code == SE_CODE_U6) return 6;
  if (code == SE_CODE_I8) return 8;
  if (code == SE_CODE_E4M3) return 8;
  return 0;
}

// Bytes of one scale; 0 for a number that is none.
constexpr int64_t scale_bytes(int32_t scale) {
  if (scale == SE_SCALE_F32) return 4;
  if (scale == SE_SCALE_F16) return 2;
  if (scale == SE_SCALE_BF16) return 2;
  if (scale == SE_SCALE_E8M0) return 1;
  if (scale == SE_SCALE_E4M3) return 1;
  if (scale == SE_SCALE_U8) return 1;
  if (scale == SE_SCALE_I8) return 1;
  return 0;
}

// Bytes of one offset; 0 for a number that is none.
constexpr int64_t offset_bytes(int32_t offset) {
  if (offset == SE_OFFSET_ZERO) return 1;
  if (offset == SE_OFFSET_F16) return 2;
  if (offset == SE_OFFSET_U8) return 1;
  return 0;
}

// Scores over all router outputs come first: groups, a selection bias and hash routing may follow.
constexpr bool is_scored(int32_t scoring) {
  return scoring == SE_SOFTMAX || scoring == SE_SIGMOID || scoring == SE_SQRT_SOFTPLUS;
}

}  // namespace sparse_experts
