// The stage ops on tensors, for callers that own part of the layer. Arguments have passed
// ops/contract.h.
#pragma once

#include "abi/backend.h"
#include "core/status.h"

namespace sparse_experts::cpu {

struct RunContext;

Status gate_stage(const RunContext& context, const SeGateArgs& args);
Status select_stage(const RunContext& context, const SeRouting& routing, const SeSelectArgs& args);
Status dispatch_stage(const SeDispatchArgs& args);
Status expert_matmul_stage(const RunContext& context, const SeExpertMatmulArgs& args);
Status combine_stage(const RunContext& context, const SeCombineArgs& args);

}  // namespace sparse_experts::cpu
