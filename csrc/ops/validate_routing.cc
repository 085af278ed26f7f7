#include <cmath>

#include "abi/enum_names.h"
#include "ops/checks.h"
#include "ops/validate.h"

namespace sparse_experts {
namespace {

Status check_capacity(const SeRouting& routing) {
  SE_CHECK_ARGUMENT(
      routing.capacity == SE_CAPACITY_NONE || find_name(kCapacityNames, routing.capacity),
      "routing: unknown capacity rule");
  if (routing.capacity == SE_CAPACITY_NONE) return Status::ok();
  SE_CHECK_ARGUMENT(routing.scoring == SE_SOFTMAX && !routing.hash_routed,
                    "routing: capacity goes with softmax scores only");
  SE_CHECK_ARGUMENT(routing.capacity != SE_CAPACITY_PER_SEQUENCE || routing.expert_capacity > 0,
                    "routing: capacity per sequence needs expert_capacity > 0");
  SE_CHECK_ARGUMENT(
      std::isfinite(routing.capacity_token_fraction) && routing.capacity_token_fraction <= 1e6,
      "routing: bad capacity_token_fraction");
  return Status::ok();
}

}  // namespace

Status validate_routing(const SeRouting& routing) {
  SE_CHECK_ARGUMENT(find_name(kScoringNames, routing.scoring), "routing: unknown scoring");
  SE_CHECK_ARGUMENT(routing.num_experts >= 1 && routing.num_experts <= INT32_MAX / 2,
                    "routing: num_experts out of range");
  SE_CHECK_ARGUMENT(
      routing.num_identity_experts >= 0 && routing.num_identity_experts <= routing.num_experts,
      "routing: num_identity_experts out of range");
  SE_CHECK_ARGUMENT(routing.top_k >= 1 && routing.top_k <= routing.num_experts,
                    "routing: top_k must be in [1, num_experts]");
  SE_CHECK_ARGUMENT(routing.scoring != SE_SPARSEMIXER || routing.top_k == 2,
                    "routing: sparsemixer selects exactly 2 experts");
  const int64_t num_groups = routing.num_expert_groups;
  SE_CHECK_ARGUMENT(num_groups >= 1 && routing.num_experts % num_groups == 0,
                    "routing: num_expert_groups must divide num_experts");
  SE_CHECK_ARGUMENT(
      num_groups == 1 || (routing.topk_group >= 1 && routing.topk_group <= num_groups),
      "routing: topk_group must be in [1, num_expert_groups]");
  SE_CHECK_ARGUMENT(
      num_groups == 1 || routing.num_experts / num_groups * routing.topk_group >= routing.top_k,
      "routing: the kept groups hold fewer than top_k experts");
  SE_CHECK_ARGUMENT(find_name(kGroupScoreNames, routing.group_score),
                    "routing: unknown group score");
  SE_CHECK_ARGUMENT(find_name(kNormalizationNames, routing.normalization),
                    "routing: unknown normalization");
  SE_CHECK_ARGUMENT(std::isfinite(routing.norm_value) && std::isfinite(routing.scaling_factor) &&
                        std::isfinite(routing.logit_softcap) &&
                        std::isfinite(routing.sparsemixer_epsilon),
                    "routing: figures must be finite");
  SE_CHECK_ARGUMENT(routing.normalization != SE_NORM_P || routing.norm_value > 0,
                    "routing: the order of a p-norm must be positive");
  SE_CHECK_ARGUMENT(
      !routing.hash_routed || (routing.hash_table != nullptr && routing.vocab_size > 0),
      "routing: hash routing needs its table");
  return check_capacity(routing);
}

Status validate_select(const SeRouting& routing, const SeSelectArgs& args, bool replay) {
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
  SE_CHECK_ARGUMENT(args.top_p > 0 && args.top_p <= 1, "select: top_p must be in (0, 1]");
  SE_CHECK_ARGUMENT(
      args.row_top_k != nullptr || (args.call_top_k >= 0 && args.call_top_k <= routing.top_k),
      "select: call_top_k must be in [0, top_k]");
  SE_CHECK_ARGUMENT(!routing.hash_routed || args.token_ids != nullptr,
                    "select: hash routing needs token ids");
  SE_CHECK_ARGUMENT(args.sequence_lengths == nullptr || is_extent(args.num_sequences),
                    "select: num_sequences out of range");
  return Status::ok();
}

Status validate_select_arrays(const SeRouting& routing, const SeSelectArgs& args, bool replay) {
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

Status validate_select_contents(const SeRouting& routing, const SeSelectArgs& args, bool replay) {
  SE_RETURN_IF_ERROR(validate_select_arrays(routing, args, replay));
  if (replay || !routing.hash_routed) return Status::ok();
  for (int64_t token = 0; token < args.num_tokens; ++token) {
    const int64_t id = args.token_ids[token];
    for (int64_t k = 0; k < routing.top_k; ++k) {
      const int32_t expert = routing.hash_table[id * routing.top_k + k];
      SE_CHECK_ARGUMENT(expert >= 0 && expert < routing.num_experts,
                        "select: the hash table has expert " + std::to_string(expert) +
                            " for token id " + std::to_string(id));
    }
  }
  return Status::ok();
}

}  // namespace sparse_experts
