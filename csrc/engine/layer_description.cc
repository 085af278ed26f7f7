#include "engine/layer_description.h"

namespace sparse_experts::engine {

SeMoeLayer layer_without_memory(const LayerDescription& description) {
  static const void* const nowhere[1] = {nullptr};
  const auto matrices = [](int64_t rows, int64_t cols) {
    SeMatrixTable table = {};
    table.data = nowhere;
    table.rows = rows;
    table.cols = cols;
    table.row_stride = cols;
    return table;
  };
  const auto mlp = [&](int64_t count, int64_t intermediate, int64_t width,
                       const SeActivationSpec& activation) {
    SeExperts experts = {};
    experts.num_experts = count;
    experts.dtype = description.dtype;
    experts.up = matrices(intermediate, width);
    experts.down = matrices(width, intermediate);
    if (activation.gated != 0) experts.gate = experts.up;
    experts.activation = activation;
    return experts;
  };
  SeMoeLayer layer = {};
  layer.hidden_size = description.hidden_size;
  layer.latent_size = description.latent_size;
  layer.routing = description.routing;
  if (layer.routing.hash_routed != 0) {
    layer.routing.hash_table = reinterpret_cast<const int32_t*>(nowhere);
  }
  layer.router_weight = reinterpret_cast<const float*>(nowhere);
  layer.router_norm_epsilon = description.router_norm_epsilon;
  layer.weight_on_input = description.weight_on_input;
  layer.experts = mlp(description.num_experts, description.intermediate_size,
                      description.expert_width(), description.activation);
  if (description.shared_intermediate_size > 0) {
    layer.shared = mlp(1, description.shared_intermediate_size, description.hidden_size,
                       description.shared_activation);
    layer.shared_gate_mode = description.shared_gate_mode;
    if (layer.shared_gate_mode != SE_SHARED_PLAIN) {
      layer.shared_gate = reinterpret_cast<const float*>(nowhere);
    }
  }
  if (description.latent_size > 0) {
    const int64_t hidden = description.hidden_size;
    const int64_t latent = description.latent_size;
    layer.latent_down = matrices(latent, hidden);
    layer.latent_up = matrices(hidden, latent);
    layer.latent_norm_epsilon = description.latent_norm_epsilon;
    if (layer.latent_norm_epsilon > 0) layer.latent_norm = reinterpret_cast<const float*>(nowhere);
  }
  // Of many experts the first speaks for all.
  for (const HeldMatrix& held : description.held) {
    if (held.expert != 0 || held.format >= description.formats.size()) continue;
    const auto hold = [&](SeMatrixTable* table) {
      if (table->data == nullptr) return;
      table->formats = &description.formats[held.format];
      table->num_formats = 1;
    };
    const bool is_latent = held.role == MatrixRole::kLatent;
    SeExperts* experts = held.role == MatrixRole::kShared ? &layer.shared : &layer.experts;
    const bool is_fused = held.kind == MatrixKind::kGateUp;
    if (held.kind == MatrixKind::kGate || is_fused) hold(&experts->gate);
    if (held.kind == MatrixKind::kUp || is_fused) hold(is_latent ? &layer.latent_up : &experts->up);
    if (held.kind == MatrixKind::kDown) hold(is_latent ? &layer.latent_down : &experts->down);
  }
  return layer;
}

}  // namespace sparse_experts::engine
