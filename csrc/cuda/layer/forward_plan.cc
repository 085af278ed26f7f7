#include "cuda/layer/forward_plan.h"

#include <algorithm>

#include "core/dtype.h"
#include "core/numeric.h"
#include "cuda/layouts/stored_layout.h"
#include "cuda/ops/capacity.h"
#include "cuda/ops/dispatch.h"
#include "cuda/ops/router.h"
#include "cuda/ops/select.h"

namespace sparse_experts::cuda {
namespace {

// A wave of the smallest size still shares each expert's weights among tokens.
constexpr int64_t kLeastWaveTokens = 64;
constexpr int64_t kRouteBytes = int64_t{64} << 20;
constexpr uint64_t kAlignment = 256;

struct Layout {
  uint64_t at = 0;
  uint64_t take(uint64_t bytes) {
    const uint64_t offset = at;
    at = round_up(at + bytes, kAlignment);
    return offset;
  }
};

bool same_activation(const SeActivationSpec& a, const SeActivationSpec& b) {
  return a.kind == b.kind && a.gated == b.gated && a.alpha == b.alpha &&
         a.up_offset == b.up_offset && a.limit == b.limit && a.gate_limit == b.gate_limit;
}

// Of one matrix, or of one expert's gate and up.
MatmulShape plain_shape(int32_t dtype, const SeMatrixTable& matrix, int64_t num_tokens,
                        const SeLayerOptions& options) {
  MatmulShape shape{};
  shape.dtype = dtype;
  shape.stored = codes_of(matrix);
  shape.rows = matrix.rows;
  shape.cols = matrix.cols;
  shape.num_experts = 1;
  shape.top_k = 1;
  shape.num_tokens = num_tokens;
  shape.batch_invariant = options.batch_invariant;
  return shape;
}

}  // namespace

ForwardPlan plan_forward(const SeMoeLayer& layer, const PlanLimits& limits, int64_t num_tokens) {
  const SeRouting& routing = layer.routing;
  const bool has_routed = layer.experts.num_experts > 0;
  const bool has_shared = layer.shared.num_experts > 0;
  const bool has_latent = layer.latent_size > 0;
  const int64_t hidden_size = layer.hidden_size;
  const int64_t top_k = std::max<int64_t>(1, routing.top_k);
  const int64_t num_tokens_or_one = std::max<int64_t>(1, num_tokens);

  ForwardPlan plan;
  plan.dtype = has_routed || has_latent ? layer.experts.dtype
               : has_shared             ? layer.shared.dtype
                                        : SE_F32;
  plan.width = has_latent ? layer.latent_size : hidden_size;
  plan.intermediate = has_routed ? layer.experts.up.rows : 0;
  plan.shared_intermediate = has_shared ? layer.shared.up.rows : 0;
  plan.joint_shared = has_routed && has_shared && layer.shared.dtype == plan.dtype &&
                      same_activation(layer.shared.activation, layer.experts.activation) &&
                      lie_in_one_code(layer.shared.up, layer.experts.up) &&
                      lie_in_one_code(layer.shared.down, layer.experts.down);
  const int64_t act = dtype_bytes(plan.dtype);
  const int64_t shared_act = has_shared ? dtype_bytes(layer.shared.dtype) : 0;
  const bool has_shared_input = has_shared && layer.shared.dtype != plan.dtype;

  const int64_t scaled = layer.weight_on_input ? plan.width * act : 0;
  int64_t slot_bytes = 16;  // sorted_slots, the scratch of dispatch, tile records
  if (has_routed) slot_bytes += scaled + plan.intermediate * act + plan.width * 4;
  int64_t token_bytes = hidden_size * act + top_k * slot_bytes;
  if (has_shared) token_bytes += plan.shared_intermediate * shared_act + hidden_size * 4 + 4;
  if (has_shared_input) token_bytes += hidden_size * shared_act;
  if (has_latent) token_bytes += 2 * plan.width * act + hidden_size * 4;
  const bool has_latent_rows = has_latent && layer.latent_norm != nullptr && plan.dtype != SE_F32;
  if (has_latent_rows) token_bytes += plan.width * 4;
  const auto wave_bytes = static_cast<int64_t>(std::min<uint64_t>(limits.wave_bytes, INT64_MAX));
  plan.wave_tokens =
      std::min(num_tokens_or_one, std::max(kLeastWaveTokens, wave_bytes / token_bytes));
  // Slots are 32-bit.
  plan.wave_tokens = std::min(plan.wave_tokens, std::max<int64_t>(1, INT32_MAX / top_k));
  plan.num_splits = router_splits(hidden_size);
  const int64_t route_bytes = (routing.num_experts * plan.num_splits + hidden_size) * 4;
  plan.route_tokens =
      std::min(num_tokens_or_one, std::max(kLeastWaveTokens, kRouteBytes / route_bytes));

  Layout layout;
  if (routing.capacity == SE_CAPACITY_BATCH) {
    plan.slot_scores = layout.take(num_tokens_or_one * top_k * sizeof(double));
    plan.best_scores = layout.take(num_tokens_or_one * sizeof(double));
  }
  if (routing.capacity != SE_CAPACITY_NONE)
    plan.capacity_scratch = layout.take(capacity_scratch_bytes(routing, num_tokens_or_one));
  plan.partials = layout.take(plan.route_tokens * routing.num_experts * plan.num_splits * 4);
  if (layer.router_input_scale != nullptr)
    plan.router_rows = layout.take(plan.route_tokens * hidden_size * 4);
  // Routing ends before the waves begin: they share the space.
  const uint64_t routing_end = layout.at;

  const int64_t tokens = plan.wave_tokens;
  const int64_t slots = tokens * top_k;
  layout.at = 0;
  plan.hidden = layout.take(tokens * hidden_size * act);
  if (has_shared_input) plan.shared_input = layout.take(tokens * hidden_size * shared_act);
  if (has_latent) plan.latent = layout.take(tokens * plan.width * act);
  if (has_routed) {
    const int64_t num_offsets = layer.experts.num_experts + 1;
    if (layer.weight_on_input) plan.scaled = layout.take(slots * plan.width * act);
    plan.expert_hidden = layout.take(slots * plan.intermediate * act);
    plan.expert_output = layout.take(slots * plan.width * 4);
    plan.expert_offsets = layout.take(num_offsets * 4);
    plan.sorted_slots = layout.take(slots * 4);
    const int64_t num_tiles =
        token_tiles_at_most(slots, layer.experts.num_experts, kLeastTileTokens);
    for (uint64_t& offset : plan.tiles) offset = layout.take(num_tiles * sizeof(TileRecord));
    plan.num_tiles = layout.take(kMaxTileKinds * 4);
    plan.dispatch_scratch = layout.take(dispatch_scratch_bytes(slots, layer.experts.num_experts));
  }
  if (has_shared) {
    plan.shared_hidden = layout.take(tokens * plan.shared_intermediate * shared_act);
    plan.shared_output = layout.take(tokens * hidden_size * 4);
    plan.shared_coefficients = layout.take(tokens * 4);
  }
  if (has_latent) {
    plan.latent_sum = layout.take(tokens * plan.width * act);
    if (has_latent_rows) plan.latent_rows = layout.take(tokens * plan.width * 4);
    plan.projected = layout.take(tokens * hidden_size * 4);
  }
  plan.total_bytes = std::max(layout.at, routing_end);
  return plan;
}

WaveConfigs choose_wave_configs(const SeMoeLayer& layer, const SeLayerOptions& options,
                                const ForwardPlan& plan, const DeviceLimits& limits,
                                const BulkReady& ready, int64_t num_tokens) {
  WaveConfigs configs;
  const int64_t hidden_size = layer.hidden_size;
  MatmulShape shape{};
  if (layer.experts.num_experts > 0) {
    shape = plain_shape(plan.dtype, layer.experts.up, num_tokens, options);
    shape.num_experts = layer.experts.num_experts;
    shape.top_k = layer.routing.top_k;
    shape.gated = layer.experts.activation.gated;
    if (plan.joint_shared) {
      shape.shared_stored = codes_of(layer.shared.up);
      shape.shared_rows = plan.shared_intermediate;
      shape.shared_cols = hidden_size;
    }
    shape.bulk_ready = ready.gate_up && (!plan.joint_shared || ready.shared_gate_up);
    configs.gate_up = choose_matmul(shape, limits);
    shape.gated = 0;
    shape.stored = codes_of(layer.experts.down);
    shape.rows = plan.width;
    shape.cols = plan.intermediate;
    if (plan.joint_shared) {
      shape.shared_stored = codes_of(layer.shared.down);
      shape.shared_rows = hidden_size;
      shape.shared_cols = plan.shared_intermediate;
    }
    shape.bulk_ready = ready.down && (!plan.joint_shared || ready.shared_down);
    configs.down = choose_matmul(shape, limits);
  }
  if (layer.shared.num_experts > 0 && !plan.joint_shared) {
    shape = plain_shape(layer.shared.dtype, layer.shared.up, num_tokens, options);
    shape.gated = layer.shared.activation.gated;
    shape.bulk_ready = ready.shared_gate_up;
    configs.shared_gate_up = choose_matmul(shape, limits);
    shape = plain_shape(layer.shared.dtype, layer.shared.down, num_tokens, options);
    shape.bulk_ready = ready.shared_down;
    configs.shared_down = choose_matmul(shape, limits);
  }
  if (layer.latent_size > 0) {
    configs.latent_down =
        choose_matmul(plain_shape(plan.dtype, layer.latent_down, num_tokens, options), limits);
    configs.latent_up =
        choose_matmul(plain_shape(plan.dtype, layer.latent_up, num_tokens, options), limits);
  }
  return configs;
}

}  // namespace sparse_experts::cuda
