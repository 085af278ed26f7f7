// Router logits from their splits over K. The sum kernel and selection add them here, so that both see the
// same bits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/router.h"

namespace sparse_experts::cuda {

// Logits element[0 … kCount) of the flattened [num_tokens, num_experts], `size` elements in all,
// where exists[i]; expert[i] picks the bias. The splits are added in rising order, the bias last.
// Several elements at a time keep several loads under way.
template <int kCount>
__device__ __forceinline__ void load_logits(const SplitLogits& split, int64_t size,
                                            const int64_t (&element)[kCount],
                                            const int64_t (&expert)[kCount],
                                            const bool (&exists)[kCount], float (&logits)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) logits[i] = exists[i] ? split.partials[element[i]] : 0.0f;
#pragma unroll 8
  for (int32_t s = 1; s < split.num_splits; ++s) {
    const float* const partials = split.partials + s * size;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (exists[i]) logits[i] += partials[element[i]];
    }
  }
  if (split.bias == nullptr) return;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (exists[i]) logits[i] += split.bias[expert[i]];
  }
}

__device__ __forceinline__ float load_logit(const SplitLogits& split, int64_t size, int64_t element,
                                            int64_t expert) {
  const int64_t elements[1] = {element};
  const int64_t experts[1] = {expert};
  const bool exists[1] = {true};
  float logits[1];
  load_logits(split, size, elements, experts, exists, logits);
  return logits[0];
}

}  // namespace sparse_experts::cuda
