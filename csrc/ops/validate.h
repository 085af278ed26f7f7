// The argument contract of every op, checked before anything is computed. A backend may assume what
// passes here.
//
// validate_X checks shapes, scalars and the presence of pointers, and never reads an array: a
// backend calls it whatever memory the arrays lie in. validate_X_contents reads what the arrays
// hold, so only a backend whose arrays the host can read calls it, after validate_X; another checks
// the same rules on its device. Ops without such a function have no contents to check.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"

namespace sparse_experts {

// Scalars and pointers of the rule alone.
Status validate_routing(const SeRouting& routing);

// The rule together with a call: outputs present, scalars in range.
Status validate_select(const SeRouting& routing, const SeSelectArgs& args, bool replay);
// The call's own arrays: row_top_k <= top_k, token ids in the table, sequences that sum to
// num_tokens. With `replay`, ids are inputs: each in [-1, num_experts).
Status validate_select_arrays(const SeRouting& routing, const SeSelectArgs& args, bool replay);
// validate_select_arrays, and the rows of the hash table that the token ids name.
Status validate_select_contents(const SeRouting& routing, const SeSelectArgs& args, bool replay);

Status validate_layer(const SeMoeLayer& layer);
// Matrices that must be there: latent projections, shared experts.
Status validate_layer_contents(const SeMoeLayer& layer);

// The layer and the call; neither reads the other's arrays.
Status validate_forward(const SeMoeLayer& layer, const SeForwardArgs& args);
Status validate_forward_contents(const SeMoeLayer& layer, const SeForwardArgs& args);

Status validate_gate(const SeGateArgs& args);
Status validate_dispatch(const SeDispatchArgs& args);
Status validate_dispatch_contents(const SeDispatchArgs& args);
Status validate_expert_matmul(const SeExpertMatmulArgs& args);
Status validate_expert_matmul_contents(const SeExpertMatmulArgs& args);
Status validate_combine(const SeCombineArgs& args);
Status validate_combine_contents(const SeCombineArgs& args);

}  // namespace sparse_experts
