// The stage ops. Arguments have passed ops/contract.h; what their arrays hold is checked here.
// Synchronous: the results are in place on return. All pointers are device pointers.
#pragma once

#include "abi/backend.h"
#include "core/status.h"

namespace sparse_experts::cuda {

class Device;

Status router_stage(Device& device, const SeGateArgs& args);
Status select_stage(Device& device, const SeRouting& routing, const SeSelectArgs& args);
Status dispatch_stage(Device& device, const SeDispatchArgs& args);
Status expert_matmul_stage(Device& device, const SeExpertMatmulArgs& args);
Status combine_stage(Device& device, const SeCombineArgs& args);

// The hash table of a layer: it does not change, so it is checked when the layer is opened.
Status check_hash_table(Device& device, const SeRouting& routing);

}  // namespace sparse_experts::cuda
