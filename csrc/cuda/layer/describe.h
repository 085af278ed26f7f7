// What a forward runs, in words: one line per stage.
#pragma once

#include "abi/backend.h"
#include "cuda/layer/forward_plan.h"

namespace sparse_experts::cuda {

void describe_forward(const SeMoeLayer& layer, const SeLayerOptions& options,
                      const PlanLimits& limits, const BulkReady& ready, int64_t num_tokens,
                      SeForwardDescription* description);

}  // namespace sparse_experts::cuda
