// The end of a forward: weighted sums over a token's slots in rising order, f32, and what the layer
// adds to them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "abi/backend.h"
#include "cuda/ops/launch_stream.h"

namespace sparse_experts::cuda {

// y = routed (+ shared by its coefficient) (+ output_bias), one rounding.
//   routed = projected, or sum over k of w_k * expert_output[slot]
//   A slot with an id below 0, or of an expert whose `present` entry is null, is left out and its
//   row never read. An id >= num_experts is an identity expert: w_k * hidden.
// A row that non_finite flags becomes NaN; a row whose output is not finite is flagged.
struct CombineKernelArgs {
  int64_t num_tokens;
  int64_t top_k;
  int64_t hidden_size;         // columns
  const float* expert_output;  // [num_tokens * top_k, hidden_size], row = slot
  const int32_t* topk_ids;     // [num_tokens * top_k] or null: all slots count
  const float* topk_weights;   // [num_tokens * top_k]
  int32_t weights_applied;     // expert_output has them already (identity slots still need theirs)
  int64_t num_experts;         // real ones
  const void* const* present;  // [num_experts] or null
  const void* hidden;          // [num_tokens, hidden_size]; identity experts only
  int32_t hidden_dtype;
  int64_t hidden_stride;
  const float* projected;            // [num_tokens, hidden_size] or null
  const float* shared_output;        // [num_tokens, hidden_size] or null
  int32_t shared_gate_mode;          // SeSharedGate
  const float* shared_coefficients;  // [num_tokens]; with SE_SHARED_SIGMOID and SE_SHARED_MIX
  const float* output_bias;          // [hidden_size] or null
  uint8_t* non_finite;               // [num_tokens] or null
  void* output;                      // [num_tokens, hidden_size]
  int32_t output_dtype;
  int64_t output_stride;
};
cudaError_t launch_combine(const CombineKernelArgs& args, LaunchStream stream);

// coefficient = sigmoid(shared_gate . x + bias[0]), bias may be null; fixed order, the same for a row in every batch.
cudaError_t launch_shared_coefficients(const void* hidden, int32_t hidden_dtype,
                                       int64_t hidden_stride, const float* shared_gate,
                                       const float* bias, int64_t num_tokens, int64_t hidden_size,
                                       float* coefficients, LaunchStream stream);

// ids[slot] = 0 for the slots that dispatch listed, -1 for all others.
cudaError_t launch_listed_slots(const int32_t* expert_offsets, int64_t num_experts,
                                const int32_t* sorted_slots, int64_t num_slots, int32_t* ids,
                                LaunchStream stream);

}  // namespace sparse_experts::cuda
