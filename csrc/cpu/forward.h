// One MoE block. Arguments have passed ops/contract.h.
#pragma once

#include "abi/backend.h"
#include "core/status.h"

namespace sparse_experts::cpu {

struct RunContext;

// layer: its phases are added to.
Status forward(const RunContext& context, SeLayer* layer, const SeForwardArgs& args,
               char* workspace, uint64_t workspace_bytes);

}  // namespace sparse_experts::cpu
