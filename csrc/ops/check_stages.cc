#include <vector>

#include "ops/checks.h"
#include "ops/contract.h"

namespace sparse_experts {
namespace {

// What dispatch wrote: offsets that rise from 0 and slots that are there, each once.
Status check_dispatched(const std::string& op, const int32_t* expert_offsets, int64_t num_experts,
                        const int32_t* sorted_slots, int64_t num_slots) {
  SE_CHECK_ARGUMENT(expert_offsets[0] == 0, op + ": expert_offsets must begin with 0");
  for (int64_t e = 0; e < num_experts; ++e)
    SE_CHECK_ARGUMENT(expert_offsets[e] <= expert_offsets[e + 1],
                      op + ": expert_offsets must rise");
  const int64_t num_dispatched = expert_offsets[num_experts];
  SE_CHECK_ARGUMENT(num_dispatched <= num_slots, op + ": expert_offsets exceed the slots");
  // Two threads would write one row of the output if a slot stood twice.
  std::vector<bool> seen(static_cast<size_t>(num_slots));
  for (int64_t i = 0; i < num_dispatched; ++i) {
    const int32_t slot = sorted_slots[i];
    SE_CHECK_ARGUMENT(slot >= 0 && slot < num_slots && !seen[slot],
                      op + ": sorted_slots must hold each slot at most once");
    seen[slot] = true;
  }
  return Status::ok();
}

}  // namespace

Status check_gate(const SeGateArgs& args) {
  SE_RETURN_IF_ERROR(check_tensor("hidden", args.hidden, {-1, -1}));
  SE_RETURN_IF_ERROR(check_float_dtype("hidden", args.hidden));
  SE_RETURN_IF_ERROR(check_tensor("router_weight", args.router_weight, {-1, args.hidden.shape[1]}));
  SE_RETURN_IF_ERROR(check_float_dtype("router_weight", args.router_weight));
  SE_CHECK_ARGUMENT(args.router_logits != nullptr || args.hidden.shape[0] == 0 ||
                        args.router_weight.shape[0] == 0,
                    "gate: no router_logits output");
  return Status::ok();
}

Status check_dispatch(const SeDispatchArgs& args) {
  SE_CHECK_ARGUMENT(args.num_experts >= 1 && args.num_experts <= INT32_MAX / 2,
                    "dispatch: num_experts out of range");
  SE_CHECK_ARGUMENT(args.num_slots >= 0 && args.num_slots <= INT32_MAX,
                    "dispatch: the number of slots must fit 32 bits");
  SE_CHECK_ARGUMENT(args.expert_offsets != nullptr, "dispatch: no expert_offsets output");
  SE_CHECK_ARGUMENT(
      args.num_slots == 0 || (args.topk_ids != nullptr && args.sorted_slots != nullptr),
      "dispatch: no ids or sorted_slots");
  return Status::ok();
}

Status check_dispatch_contents(const SeDispatchArgs& args) {
  for (int64_t slot = 0; slot < args.num_slots; ++slot)
    SE_CHECK_ARGUMENT(args.topk_ids[slot] >= -1 && args.topk_ids[slot] < args.num_experts,
                      "dispatch: expert id " + std::to_string(args.topk_ids[slot]) + " in slot " +
                          std::to_string(slot) + " is not in [-1, " +
                          std::to_string(args.num_experts) + ")");
  return Status::ok();
}

Status check_expert_matmul(const SeExpertMatmulArgs& args) {
  SE_CHECK_ARGUMENT(args.num_slots >= 0 && args.num_slots <= INT32_MAX,
                    "expert_matmul: the number of slots must fit 32 bits");
  SE_CHECK_ARGUMENT(!args.gather || args.top_k >= 1, "expert_matmul: gather needs top_k >= 1");
  SE_RETURN_IF_ERROR(check_tensor("weights", args.weights, {-1, -1, -1}));
  SE_RETURN_IF_ERROR(check_float_dtype("weights", args.weights));
  const int64_t num_experts = args.weights.shape[0];
  const int64_t num_rows = args.weights.shape[1];
  const int64_t num_x = args.gather ? -1 : args.num_slots;
  SE_RETURN_IF_ERROR(check_tensor("x", args.x, {num_x, args.weights.shape[2]}));
  SE_RETURN_IF_ERROR(check_float_dtype("x", args.x));
  if (args.gather)
    SE_CHECK_ARGUMENT(args.num_slots <= args.x.shape[0] * args.top_k,
                      "expert_matmul: more slots than tokens * top_k");
  if (args.bias.data != nullptr) {
    SE_RETURN_IF_ERROR(check_tensor("bias", args.bias, {num_experts, num_rows}));
    SE_CHECK_ARGUMENT(args.bias.dtype == SE_F32, "expert_matmul: bias must be f32");
  }
  int64_t num_cols = num_rows;
  if (args.apply_activation && args.activation.gated) {
    SE_CHECK_ARGUMENT(num_rows % 2 == 0,
                      "expert_matmul: gated weights need an even number of rows");
    num_cols = num_rows / 2;
  }
  SE_RETURN_IF_ERROR(check_tensor("output", args.output, {args.num_slots, num_cols}));
  SE_CHECK_ARGUMENT(args.output.dtype == SE_F32, "expert_matmul: output must be f32");
  SE_CHECK_ARGUMENT(
      args.expert_offsets != nullptr && (args.num_slots == 0 || args.sorted_slots != nullptr),
      "expert_matmul: no dispatch");
  return Status::ok();
}

Status check_expert_matmul_contents(const SeExpertMatmulArgs& args) {
  return check_dispatched("expert_matmul", args.expert_offsets, args.weights.shape[0],
                          args.sorted_slots, args.num_slots);
}

Status check_combine(const SeCombineArgs& args) {
  int64_t num_slots = 0;
  SE_CHECK_ARGUMENT(is_extent(args.num_tokens) && args.top_k >= 1 &&
                        !__builtin_mul_overflow(args.num_tokens, args.top_k, &num_slots),
                    "combine: num_tokens or top_k out of range");
  SE_RETURN_IF_ERROR(check_tensor("expert_output", args.expert_output, {num_slots, -1}));
  SE_CHECK_ARGUMENT(args.expert_output.dtype == SE_F32, "combine: expert_output must be f32");
  SE_RETURN_IF_ERROR(
      check_tensor("output", args.output, {args.num_tokens, args.expert_output.shape[1]}));
  SE_RETURN_IF_ERROR(check_float_dtype("output", args.output));
  SE_CHECK_ARGUMENT(num_slots == 0 || args.topk_weights != nullptr, "combine: no topk_weights");
  if (args.expert_offsets == nullptr) return Status::ok();
  SE_CHECK_ARGUMENT(args.topk_ids == nullptr,
                    "combine: slots come from topk_ids or from dispatch, not from both");
  SE_CHECK_ARGUMENT(num_slots == 0 || args.sorted_slots != nullptr, "combine: no sorted_slots");
  SE_CHECK_ARGUMENT(num_slots <= INT32_MAX, "combine: the number of slots must fit 32 bits");
  SE_CHECK_ARGUMENT(args.num_experts >= 1 && args.num_experts <= INT32_MAX / 2,
                    "combine: num_experts out of range");
  return Status::ok();
}

Status check_combine_contents(const SeCombineArgs& args) {
  if (args.expert_offsets == nullptr) return Status::ok();
  return check_dispatched("combine", args.expert_offsets, args.num_experts, args.sorted_slots,
                          args.num_tokens * args.top_k);
}

}  // namespace sparse_experts
