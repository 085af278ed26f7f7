// What every entry point of the ABI asks of its arguments, in two halves.
//
// check_X holds what could lead outside of an array: sizes, lengths, strides, counts and pointers. A
// backend always calls it first, whatever memory the arrays lie in, because it reads none of them.
// check_X_contents reads ids, offsets and slots: a backend whose arrays the host can read calls it
// after check_X, always; another checks the same rules on its device. Ops without such a function
// have no contents to check.
//
// validate_X is the rest: enums, figures, options that exclude each other. A breach makes a result
// wrong and no access. lib/ refuses it in the user's words, so here it is a debug contract, which
// runs where is_contract_checked() says so and returns ok elsewhere.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"

namespace sparse_experts {

// SPARSE_EXPERTS_CHECK=1 when it is first asked, or a build with sanitizers.
bool is_contract_checked();

// Sizes that everything else is measured by: router outputs, top_k, groups, tables.
Status check_routing(const SeRouting& routing);
// Each id of the whole hash table names a router output.
Status check_hash_table(const SeRouting& routing);
// Whether a backend computes matrices in a format in place.
using HoldsFormat = bool (*)(int32_t dtype, const SeMatrixFormat& format);
Status check_layer(const SeMoeLayer& layer, HoldsFormat holds);
// Matrices that must be there: latent projections, shared experts.
Status check_layer_contents(const SeMoeLayer& layer);
Status validate_layer(const SeMoeLayer& layer);
// Of layer_set_experts: the layer is a cached one, each id an expert, and an expert is here with all of
// its matrices or with none.
Status check_expert_matrices(const SeExperts& all, const SeLayerOptions& options,
                             const int32_t* experts, int64_t num_experts,
                             const SeExpertMatrices* matrices);

// The layer has passed check_layer when it was opened.
Status check_forward(const SeMoeLayer& layer, const SeForwardArgs& args);
// The call's own arrays: row_top_k <= top_k, token ids in the table, sequences that sum to
// num_tokens. With `replay`, ids are inputs: each in [-1, num_experts).
Status check_select_arrays(const SeRouting& routing, const SeSelectArgs& args, bool replay);
Status validate_forward(const SeForwardArgs& args);

Status check_gate(const SeGateArgs& args);

Status check_select(const SeRouting& routing, const SeSelectArgs& args);
// check_select_arrays, and the rows of the hash table that the token ids name.
Status check_select_contents(const SeRouting& routing, const SeSelectArgs& args);
Status validate_select(const SeRouting& routing, const SeSelectArgs& args);

Status check_dispatch(const SeDispatchArgs& args);
Status check_dispatch_contents(const SeDispatchArgs& args);

Status check_expert_matmul(const SeExpertMatmulArgs& args);
Status check_expert_matmul_contents(const SeExpertMatmulArgs& args);
Status validate_expert_matmul(const SeExpertMatmulArgs& args);

Status check_combine(const SeCombineArgs& args);
Status check_combine_contents(const SeCombineArgs& args);

}  // namespace sparse_experts
