// The way of a call's host arrays into its staging block and back: of a small call by plain copies in
// pinned memory, which the device then copies as one; of a large one array by array through the
// device's copier.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/layer/staging_plan.h"
#include "cuda/runtime/copier.h"

namespace sparse_experts::cuda {

// `block`: pinned memory, laid out by the plan.
void bring_in(const SeMoeLayer& layer, const SeForwardArgs& args, const StagingPlan& staging,
              char* block);
// Ids and weights, unless the call brought them.
void hand_out_routing(const SeMoeLayer& layer, const SeForwardArgs& args,
                      const StagingPlan& staging, const char* block);
// Flags of some rows; flags and outputs.
void hand_out_flags(const SeForwardArgs& args, const StagingPlan& staging, const char* block,
                    int64_t first, int64_t count);
void hand_out_rows(const SeForwardArgs& args, const StagingPlan& staging, const char* block,
                   int64_t first, int64_t count);

// The same of a large call. `block`: device memory. Each returns when it is done.
Status copy_in(Copier& copier, const SeMoeLayer& layer, const SeForwardArgs& args,
               const StagingPlan& staging, char* block);
Status copy_out_routing(Copier& copier, const SeMoeLayer& layer, const SeForwardArgs& args,
                        const StagingPlan& staging, const char* block);
Status copy_out_flags(Copier& copier, const SeForwardArgs& args, const StagingPlan& staging,
                      const char* block, int64_t first, int64_t count);
Status copy_out_rows(Copier& copier, const SeForwardArgs& args, const StagingPlan& staging,
                     const char* block, int64_t first, int64_t count);

}  // namespace sparse_experts::cuda
