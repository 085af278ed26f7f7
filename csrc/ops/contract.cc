#include "ops/contract.h"

#include <cmath>

#include "abi/enum_names.h"
#include "ops/checks.h"
#include "platform/environment.h"

namespace sparse_experts {
namespace {

Status validate_capacity(const SeRouting& routing) {
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

Status validate_routing(const SeRouting& routing) {
  SE_CHECK_ARGUMENT(find_name(kScoringNames, routing.scoring), "routing: unknown scoring");
  SE_CHECK_ARGUMENT(find_name(kGroupScoreNames, routing.group_score),
                    "routing: unknown group score");
  const int64_t num_groups = routing.num_expert_groups;
  SE_CHECK_ARGUMENT(
      num_groups == 1 || routing.num_experts / num_groups * routing.topk_group >= routing.top_k,
      "routing: the kept groups hold fewer than top_k experts");
  SE_CHECK_ARGUMENT(find_name(kNormalizationNames, routing.normalization),
                    "routing: unknown normalization");
  SE_CHECK_ARGUMENT(std::isfinite(routing.norm_value) && std::isfinite(routing.scaling_factor) &&
                        std::isfinite(routing.logit_softcap) &&
                        std::isfinite(routing.sparsemixer_epsilon),
                    "routing: figures must be finite");
  SE_CHECK_ARGUMENT(routing.normalization != SE_NORM_P || routing.norm_value > 0,
                    "routing: the order of a p-norm must be positive");
  return validate_capacity(routing);
}

Status validate_activation(const SeActivationSpec& spec) {
  SE_CHECK_ARGUMENT(find_name(kActivationNames, spec.kind), "activation: unknown kind");
  SE_CHECK_ARGUMENT(std::isfinite(spec.alpha) && std::isfinite(spec.up_offset) &&
                        std::isfinite(spec.limit) && spec.limit >= 0 &&
                        std::isfinite(spec.gate_limit) && spec.gate_limit >= 0,
                    "activation: alpha, up_offset and limits must be finite, limits not negative");
  return Status::ok();
}

bool is_share(double value) { return value > 0 && value <= 1; }

Status validate_top_p(const SeSelectArgs& args) {
  SE_CHECK_ARGUMENT(args.row_top_p != nullptr || is_share(args.top_p),
                    "select: top_p must be in (0, 1]");
  return Status::ok();
}

// Arrays of a stage lie on the device: only a forward's are the host's.
Status validate_row_top_p(const SeSelectArgs& args) {
  for (int64_t row = 0; args.row_top_p != nullptr && row < args.num_tokens; ++row)
    SE_CHECK_ARGUMENT(is_share(args.row_top_p[row]), "select: row_top_p must be in (0, 1]");
  return Status::ok();
}

}  // namespace

bool is_contract_checked() {
#if defined(SE_SANITIZED)
  return true;
#else
  static const bool is_asked_for = [] {
    return platform::environment_variable("SPARSE_EXPERTS_CHECK") == "1";
  }();
  return is_asked_for;
#endif
}

Status validate_layer(const SeMoeLayer& layer) {
  if (!is_contract_checked()) return Status::ok();
  SE_RETURN_IF_ERROR(validate_routing(layer.routing));
  if (layer.experts.num_experts > 0)
    SE_RETURN_IF_ERROR(validate_activation(layer.experts.activation));
  if (layer.shared.num_experts > 0)
    SE_RETURN_IF_ERROR(validate_activation(layer.shared.activation));
  SE_CHECK_ARGUMENT(find_name(kSharedGateNames, layer.shared_gate_mode),
                    "layer: unknown shared gate");
  SE_CHECK_ARGUMENT(layer.router_input_scale == nullptr || std::isfinite(layer.router_norm_epsilon),
                    "layer: router_norm_epsilon must be finite");
  SE_CHECK_ARGUMENT(layer.latent_norm == nullptr || std::isfinite(layer.latent_norm_epsilon),
                    "layer: latent_norm_epsilon must be finite");
  return Status::ok();
}

Status validate_forward(const SeForwardArgs& args) {
  if (!is_contract_checked() || args.replay != 0) return Status::ok();
  SE_RETURN_IF_ERROR(validate_top_p(args.select));
  return validate_row_top_p(args.select);
}

Status validate_select(const SeRouting& routing, const SeSelectArgs& args) {
  if (!is_contract_checked()) return Status::ok();
  SE_RETURN_IF_ERROR(validate_routing(routing));
  return validate_top_p(args);
}

Status validate_expert_matmul(const SeExpertMatmulArgs& args) {
  if (!is_contract_checked() || !args.apply_activation) return Status::ok();
  return validate_activation(args.activation);
}

}  // namespace sparse_experts
