// One MoE block. Arguments have passed ops/contract.h.
#pragma once

#include "abi/backend.h"
#include "core/status.h"
#include "cpu/forward_plan.h"
#include "cpu/forward_wave.h"

namespace sparse_experts::cpu {

struct RunContext;

// layer: its phases are added to.
Status forward(const RunContext& context, SeLayer* layer, const SeForwardArgs& args,
               char* workspace, uint64_t workspace_bytes);

// The steps of it that a run (forward_run.h) takes one by one. plan_call fails where the workspace is
// too small. After take_routing the ids, weights and flags of all tokens are there, or the call is
// cancelled. check_present fails where an expert of the choice has slots and is not here.
Status plan_call(const RunContext& context, const SeLayer& layer, const SeForwardArgs& args,
                 const char* workspace, uint64_t workspace_bytes, ForwardPlan* plan);
void take_routing(const RunContext& context, SeLayer* layer, const SeForwardArgs& args,
                  const ForwardPlan& plan, char* workspace);
Status check_present(const ForwardWave& wave, const ExpertChoice& choice);

}  // namespace sparse_experts::cpu
