// Capacity: at most so many tokens per expert, over a sequence or over the whole batch.
#pragma once

#include "abi/backend.h"

namespace sparse_experts::cpu {

struct RunContext;

// Drops the slots above capacity over the whole call (per sequence, or over the batch), normalises
// where that comes after, and scales. Nothing for families without capacity.
void apply_capacity(const RunContext& context, const SeRouting& routing, const SeSelectArgs& args);

}  // namespace sparse_experts::cpu
