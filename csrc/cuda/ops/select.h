// Selection: ids and weights of each token from its router logits, by the rule in SeRouting
// (csrc/abi/backend.h).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "abi/backend.h"
#include "cuda/ops/launch_stream.h"
#include "cuda/ops/limits.h"
#include "cuda/ops/router.h"

namespace sparse_experts::cuda {

struct SelectKernelArgs {
  SplitLogits logits;
  SeRouting routing;  // its pointers are device pointers
  int64_t num_tokens;
  const int32_t* token_ids;  // [num_tokens], hash routing only; checked before
  const uint8_t* row_top_k;  // [num_tokens] or null
  int64_t call_top_k;
  const double* row_top_p;  // [num_tokens] or null
  double top_p;
  int32_t* topk_ids;    // out [num_tokens, top_k]
  float* topk_weights;  // out [num_tokens, top_k]
  uint8_t* non_finite;  // out [num_tokens]
  // Only with SE_CAPACITY_BATCH, else null; topk_weights is then written for flagged rows alone.
  double* slot_scores;  // out [num_tokens, top_k] weights before normalisation; not in flagged rows
  double* best_scores;  // out [num_tokens] the largest probability; 0 in flagged rows
};
// Experts, groups and slots of a token must fit in the shared memory of a block (20000 experts on
// sm_80, 12000 where it is 99 KiB): else cudaErrorInvalidValue.
// Tokens may be processed in chunks: all arrays then point at the chunk's first row.
cudaError_t launch_select(const SelectKernelArgs& args, const DeviceLimits& limits,
                          LaunchStream stream);

}  // namespace sparse_experts::cuda
