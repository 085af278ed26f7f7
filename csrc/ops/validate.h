// The argument contract of every op, checked before anything is computed. A backend may assume what
// passes here.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "core/status.h"

namespace sparse_experts {

// Scalars and pointers of the rule alone.
Status validate_routing(const SeRouting& routing);
// The rule together with a call: outputs present, row_top_k <= top_k, token ids in the table,
// sequences that sum to num_tokens. With `replay`, ids are inputs: each in [-1, num_experts).
Status validate_select(const SeRouting& routing, const SeSelectArgs& args, bool replay);
Status validate_layer(const SeMoeLayer& layer);
Status validate_forward(const SeMoeLayer& layer, const SeForwardArgs& args);

Status validate_gate(const SeGateArgs& args);
Status validate_dispatch(const SeDispatchArgs& args);
Status validate_expert_matmul(const SeExpertMatmulArgs& args);
Status validate_combine(const SeCombineArgs& args);

}  // namespace sparse_experts
