// Router logits: hidden rows, widened to f32 and perhaps normalised, times the router weight, plus
// its bias.
#pragma once

#include <cstdint>
#include <vector>

#include "abi/backend.h"

namespace sparse_experts::cpu {

struct RunContext;

struct RouterMatmul {
  const SeTensor* input = nullptr;  // [T, hidden_size] f32, f16 or bf16
  const void* weight = nullptr;     // [num_experts, hidden_size]
  int32_t weight_dtype = SE_F32;
  int64_t weight_stride = 0;
  int64_t num_experts = 0;
  int64_t hidden_size = 0;
  const float* bias = nullptr;         // [num_experts] or NULL
  const float* input_scale = nullptr;  // [hidden_size] or NULL: no normalisation of the input
  double norm_epsilon = 0;

  // f32 rows may be read where they are; everything else passes through a buffer.
  bool needs_buffer() const { return input->dtype != SE_F32 || input_scale != nullptr; }
};

// The layer's router as bf16, where that loses nothing; else empty.
std::vector<uint16_t> bf16_router(const SeMoeLayer& layer);

// Logits of rows [first, first + num_rows) into [num_rows, num_experts]. buffer: [num_rows,
// hidden_size] f32 when needed.
void router_logits(const RunContext& context, const RouterMatmul& router, int64_t first,
                   int64_t num_rows, float* buffer, float* logits);

}  // namespace sparse_experts::cpu
