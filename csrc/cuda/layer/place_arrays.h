// Where a call's arrays lie on the device.
#pragma once

#include "abi/backend.h"
#include "cuda/layer/forward.h"
#include "cuda/layer/staging_plan.h"

namespace sparse_experts::cuda {

// In the staging block at `base`, or in the caller's own device memory.
ForwardArrays place_arrays(const SeMoeLayer& layer, const SeForwardArgs& args,
                           const StagingPlan& staging, char* base);

}  // namespace sparse_experts::cuda
