#include "cpu/forward_plan.h"

#include <algorithm>

#include "core/numeric.h"
#include "cpu/ops/code_rows.h"
#include "cpu/ops/expert_segments.h"
#include "cpu/ops/gather_columns.h"

namespace sparse_experts::cpu {
namespace {

// More tokens than fit run in waves. A wave of the smallest size still shares each expert's weights
// among tokens.
constexpr int64_t kWaveBytes = int64_t{256} << 20;
constexpr int64_t kLeastWaveTokens = 64;
constexpr int64_t kRouteBytes = int64_t{32} << 20;

struct Layout {
  uint64_t at = 0;
  uint64_t take(int64_t bytes) {
    const uint64_t offset = at;
    at = round_up(at + static_cast<uint64_t>(bytes), 64);
    return offset;
  }
};

}  // namespace

ForwardPlan plan_forward(const IsaKernels& kernels, const SeMoeLayer& layer,
                         const SeLayerOptions& options, int64_t num_tokens) {
  const SeRouting& routing = layer.routing;
  const bool has_shared = layer.shared.num_experts > 0;
  const bool has_latent = layer.latent_size > 0;
  const int64_t hidden_size = layer.hidden_size;
  const int64_t top_k = routing.top_k;
  const int64_t num_tokens_or_one = std::max<int64_t>(1, num_tokens);

  ForwardPlan plan;
  plan.coded_activations = options.int8_activations != 0;
  // Rows that become codes are not rounded before.
  plan.bf16_activations = !plan.coded_activations && has_bf16_activations(kernels, layer);
  plan.activation_bytes = plan.bf16_activations ? 2 : 4;
  const int64_t act = plan.activation_bytes;
  plan.width = has_latent ? layer.latent_size : hidden_size;
  plan.intermediate = layer.experts.up.rows;
  plan.shared_intermediate = has_shared ? layer.shared.up.rows : 0;

  // Bytes of activations: rows in slabs.
  const auto slabs = [&](int64_t rows, int64_t cols) {
    return RowLayout::slab_elements(rows, cols) * act;
  };
  const int64_t scaled = layer.weight_on_input ? slabs(1, plan.width) : 0;
  const int64_t slot_bytes = scaled + slabs(1, plan.intermediate) + plan.width * 4 + 8;
  int64_t token_bytes = slabs(1, hidden_size) + top_k * slot_bytes;
  if (has_shared) token_bytes += slabs(1, plan.shared_intermediate) + hidden_size * 4;
  if (has_latent) token_bytes += 2 * slabs(1, plan.width) + hidden_size * 4;
  token_bytes += gathered_elements(layer, 1) * act;
  if (plan.coded_activations) token_bytes += coded_bytes(kernels, layer, 1);
  plan.wave_tokens =
      std::min(num_tokens_or_one, std::max(kLeastWaveTokens, kWaveBytes / token_bytes));
  const int64_t route_bytes = (routing.num_experts + hidden_size) * 4;
  plan.route_tokens =
      std::min(num_tokens_or_one, std::max(kLeastWaveTokens, kRouteBytes / route_bytes));

  const int64_t tokens = plan.wave_tokens;
  const int64_t slots = tokens * top_k;
  Layout layout;
  plan.logits = layout.take(plan.route_tokens * routing.num_experts * 4);
  plan.router_rows = layout.take(plan.route_tokens * hidden_size * 4);
  // Routing ends before the waves begin: they share the space.
  const uint64_t routing_end = layout.at;
  layout.at = 0;
  plan.hidden = layout.take(slabs(tokens, hidden_size));
  if (has_latent) plan.latent = layout.take(slabs(tokens, plan.width));
  if (layer.weight_on_input) plan.scaled = layout.take(slabs(slots, plan.width));
  plan.expert_hidden = layout.take(slabs(slots, plan.intermediate));
  plan.expert_output = layout.take(slots * plan.width * 4);
  if (has_shared) {
    plan.shared_hidden = layout.take(slabs(tokens, plan.shared_intermediate));
    plan.shared_output = layout.take(tokens * hidden_size * 4);
  }
  if (has_latent) {
    plan.latent_sum = layout.take(slabs(tokens, plan.width));
    plan.projected = layout.take(tokens * hidden_size * 4);
  }
  plan.gathered = layout.take(gathered_elements(layer, tokens) * act);
  if (plan.coded_activations) plan.coded = layout.take(coded_bytes(kernels, layer, tokens));
  plan.expert_offsets = layout.take((layer.experts.num_experts + 1) * 4);
  plan.sorted_slots = layout.take(slots * 4);
  plan.token_rows = layout.take(slots * 4);
  plan.total_bytes = std::max(layout.at, routing_end);
  return plan;
}

}  // namespace sparse_experts::cpu
