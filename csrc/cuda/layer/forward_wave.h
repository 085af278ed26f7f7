// One wave of a forward's tokens.
#pragma once

#include <cstdint>

#include "core/status.h"
#include "cuda/layer/forward.h"

namespace sparse_experts::cuda {

// Rows [first, first + num_tokens) of a routed call: all but the routing.
Status queue_wave(const ForwardQueue& queue, const ForwardArrays& arrays, int64_t first,
                  int64_t num_tokens);

}  // namespace sparse_experts::cuda
