// Forwards and selections: sizes, counts and pointers of a call, and the ids that it brings.
#include <string>

#include "ops/checks.h"
#include "ops/contract.h"

namespace sparse_experts {
namespace {

Status check_slots(const SeRouting& routing, const SeSelectArgs& args, bool replay) {
  const int64_t num_tokens = args.num_tokens;
  int64_t num_slots = 0;
  SE_CHECK_ARGUMENT(is_extent(num_tokens) &&
                        !__builtin_mul_overflow(num_tokens, routing.top_k, &num_slots) &&
                        num_slots <= kMaxExtent,
                    "select: num_tokens out of range");
  if (num_tokens == 0) return Status::ok();
  SE_CHECK_ARGUMENT(args.topk_ids != nullptr && args.topk_weights != nullptr,
                    "select: no ids or weights");
  if (replay) return Status::ok();
  SE_CHECK_ARGUMENT(args.non_finite != nullptr, "select: no non_finite output");
  SE_CHECK_ARGUMENT(
      args.row_top_k != nullptr || (args.call_top_k >= 0 && args.call_top_k <= routing.top_k),
      "select: call_top_k must be in [0, top_k]");
  SE_CHECK_ARGUMENT(!routing.hash_routed || args.token_ids != nullptr,
                    "select: hash routing needs token ids");
  SE_CHECK_ARGUMENT(args.sequence_lengths == nullptr || is_extent(args.num_sequences),
                    "select: num_sequences out of range");
  return Status::ok();
}

Status check_hash_row(const SeRouting& routing, int64_t id) {
  for (int64_t k = 0; k < routing.top_k; ++k) {
    const int32_t expert = routing.hash_table[id * routing.top_k + k];
    SE_CHECK_ARGUMENT(expert >= 0 && expert < routing.num_experts,
                      "routing: the hash table has expert " + std::to_string(expert) +
                          " for token id " + std::to_string(id));
  }
  return Status::ok();
}

}  // namespace

Status check_hash_table(const SeRouting& routing) {
  if (!routing.hash_routed) return Status::ok();
  for (int64_t id = 0; id < routing.vocab_size; ++id)
    SE_RETURN_IF_ERROR(check_hash_row(routing, id));
  return Status::ok();
}

Status check_forward(const SeMoeLayer& layer, const SeForwardArgs& args) {
  const int64_t num_tokens = args.select.num_tokens;
  SE_CHECK_ARGUMENT(is_extent(num_tokens), "forward: num_tokens out of range");
  SE_RETURN_IF_ERROR(check_tensor("hidden", args.hidden, {num_tokens, layer.hidden_size}));
  SE_RETURN_IF_ERROR(check_float_dtype("hidden", args.hidden));
  SE_RETURN_IF_ERROR(check_tensor("output", args.output, {num_tokens, layer.hidden_size}));
  SE_CHECK_ARGUMENT(args.output.dtype == args.hidden.dtype,
                    "forward: output must have hidden's dtype");
  if (args.router_input.data != nullptr) {
    SE_RETURN_IF_ERROR(
        check_tensor("router_input", args.router_input, {num_tokens, layer.hidden_size}));
    SE_RETURN_IF_ERROR(check_float_dtype("router_input", args.router_input));
  }
  SE_CHECK_ARGUMENT(args.replay || num_tokens == 0 || layer.router_weight != nullptr,
                    "forward: the layer has no router");
  return check_slots(layer.routing, args.select, args.replay != 0);
}

Status check_select(const SeRouting& routing, const SeSelectArgs& args) {
  SE_RETURN_IF_ERROR(check_routing(routing));
  SE_RETURN_IF_ERROR(check_slots(routing, args, false));
  SE_CHECK_ARGUMENT(args.num_tokens == 0 || args.router_logits != nullptr,
                    "select: no router_logits");
  return Status::ok();
}

Status check_select_arrays(const SeRouting& routing, const SeSelectArgs& args, bool replay) {
  const int64_t num_tokens = args.num_tokens;
  if (num_tokens == 0) return Status::ok();
  if (replay) {
    for (int64_t slot = 0; slot < num_tokens * routing.top_k; ++slot)
      SE_CHECK_ARGUMENT(args.topk_ids[slot] >= -1 && args.topk_ids[slot] < routing.num_experts,
                        "replay: expert id " + std::to_string(args.topk_ids[slot]) + " of token " +
                            std::to_string(slot / routing.top_k) + " is not in [-1, " +
                            std::to_string(routing.num_experts) + ")");
    return Status::ok();
  }
  if (args.row_top_k != nullptr) {
    for (int64_t token = 0; token < num_tokens; ++token)
      SE_CHECK_ARGUMENT(args.row_top_k[token] <= routing.top_k,
                        "select: row_top_k of token " + std::to_string(token) + " exceeds top_k");
  }
  if (routing.hash_routed) {
    for (int64_t token = 0; token < num_tokens; ++token)
      SE_CHECK_ARGUMENT(args.token_ids[token] >= 0 && args.token_ids[token] < routing.vocab_size,
                        "select: token id " + std::to_string(args.token_ids[token]) +
                            " is not in [0, " + std::to_string(routing.vocab_size) + ")");
  }
  if (args.sequence_lengths != nullptr) {
    int64_t sum = 0;
    for (int64_t i = 0; i < args.num_sequences; ++i) {
      SE_CHECK_ARGUMENT(args.sequence_lengths[i] >= 0, "select: negative sequence length");
      sum += args.sequence_lengths[i];
    }
    SE_CHECK_ARGUMENT(sum == num_tokens, "select: sequence lengths sum to " + std::to_string(sum) +
                                             ", not to " + std::to_string(num_tokens) + " tokens");
  }
  return Status::ok();
}

Status check_select_contents(const SeRouting& routing, const SeSelectArgs& args) {
  SE_RETURN_IF_ERROR(check_select_arrays(routing, args, false));
  if (!routing.hash_routed) return Status::ok();
  for (int64_t token = 0; token < args.num_tokens; ++token)
    SE_RETURN_IF_ERROR(check_hash_row(routing, args.token_ids[token]));
  return Status::ok();
}

}  // namespace sparse_experts
