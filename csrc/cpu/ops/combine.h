// The end of a wave: the weighted sum over a token's slots, and what the layer adds to it.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "cpu/ops/expert_matmul.h"

namespace sparse_experts::cpu {

struct RunContext;

struct CombineWave {
  const RunContext& context;
  const SeMoeLayer& layer;
  const SeForwardArgs& args;
  int64_t first_token;
  int64_t num_tokens;
  int64_t width;               // columns of expert_output
  bool counts_absent = false;  // every slot's row is there, whether its expert still is or not
  const float* expert_output =
      nullptr;  // [num_tokens * top_k, width], row = slot; rows of absent experts are never read
  const float* shared_output = nullptr;  // [num_tokens, hidden_size] or NULL
  const float* projected =
      nullptr;  // [num_tokens, hidden_size]: the routed sum out of the latent space, or NULL
};

// Sums of each token's slots in the latent space, normalised where the layer says so,
// [num_tokens, width] of `dtype`.
void sum_latent(const CombineWave& wave, void* sums, const RowLayout& layout, int32_t dtype);

// Writes the output rows of the wave and raises non_finite where one is not finite.
//   y = routed (+ shared by its gate) (+ output_bias), one rounding. Rows that routing flagged
//   become NaN.
void combine_rows(const CombineWave& wave);

}  // namespace sparse_experts::cpu
