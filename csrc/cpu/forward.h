// One MoE block. Arguments have passed ops/validate.h and `workspace` holds
// forward_workspace_bytes.
#pragma once

#include "backend/backend.h"
#include "core/status.h"

namespace sparse_experts::cpu {

class PhaseTimes;
struct RunContext;

Status forward(const RunContext& context, const SeMoeLayer& layer, const SeForwardArgs& args,
               char* workspace, uint64_t workspace_bytes, PhaseTimes* phases);

}  // namespace sparse_experts::cpu
