#include <cmath>

#include "core/matrix_format.h"
#include "ops/checks.h"
#include "ops/validate.h"

namespace sparse_experts {
namespace {

// Backends compute the layer's own dtype only; every other format has been converted to it.
Status check_format(const std::string& label, const SeMatrixTable& matrix, int32_t dtype) {
  if (matrix.formats == nullptr) return Status::ok();
  const SeMatrixFormat& format = matrix.formats[0];
  SE_CHECK_ARGUMENT(matrix.format_of == nullptr && matrix.global == nullptr &&
                        is_float_format(format) && element_dtype(format) == dtype,
                    label + ": the format of the matrices is not computed in place");
  return Status::ok();
}

Status check_matrix(const char* name, const SeMatrixTable& matrix, int64_t rows, int64_t cols,
                    int32_t dtype) {
  const std::string label(name);
  SE_CHECK_ARGUMENT(matrix.data != nullptr, label + ": no matrices");
  SE_CHECK_ARGUMENT(matrix.rows == rows && matrix.cols == cols,
                    label + ": expected [" + std::to_string(rows) + ", " + std::to_string(cols) +
                        "], received [" + std::to_string(matrix.rows) + ", " +
                        std::to_string(matrix.cols) + "]");
  SE_CHECK_ARGUMENT(matrix.row_stride >= cols && matrix.row_stride <= kMaxExtent,
                    label + ": row_stride is below the number of columns");
  return check_format(label, matrix, dtype);
}

Status check_experts(const std::string& name, const SeExperts& experts, int64_t width) {
  SE_CHECK_ARGUMENT(is_float_dtype(experts.dtype), name + ": dtype must be f32, f16 or bf16");
  const int64_t intermediate = experts.up.rows;
  SE_CHECK_ARGUMENT(intermediate >= 1 && is_extent(intermediate),
                    name + ": intermediate size out of range");
  SE_RETURN_IF_ERROR(
      check_matrix((name + " up").c_str(), experts.up, intermediate, width, experts.dtype));
  SE_RETURN_IF_ERROR(
      check_matrix((name + " down").c_str(), experts.down, width, intermediate, experts.dtype));
  if (experts.activation.gated)
    SE_RETURN_IF_ERROR(
        check_matrix((name + " gate").c_str(), experts.gate, intermediate, width, experts.dtype));
  const SeBiasTable* biases[] = {&experts.gate_bias, &experts.up_bias, &experts.down_bias};
  for (const SeBiasTable* bias : biases)
    SE_CHECK_ARGUMENT(bias->data == nullptr || bias->stride >= 1,
                      name + ": bias stride must be positive");
  return check_activation(experts.activation);
}

}  // namespace

Status validate_layer(const SeMoeLayer& layer) {
  const SeRouting& routing = layer.routing;
  SE_RETURN_IF_ERROR(validate_routing(routing));
  SE_CHECK_ARGUMENT(layer.hidden_size >= 1 && is_extent(layer.hidden_size),
                    "layer: hidden_size out of range");
  SE_CHECK_ARGUMENT(is_extent(layer.latent_size), "layer: latent_size out of range");
  SE_CHECK_ARGUMENT(layer.latent_size == 0 || routing.num_identity_experts == 0,
                    "layer: identity experts have no meaning in a latent space");
  const int64_t num_real = routing.num_experts - routing.num_identity_experts;
  SE_CHECK_ARGUMENT(layer.experts.num_experts == num_real,
                    "layer: the router has " + std::to_string(num_real) + " experts, the tables " +
                        std::to_string(layer.experts.num_experts));
  const int64_t width = layer.latent_size > 0 ? layer.latent_size : layer.hidden_size;
  if (num_real > 0) SE_RETURN_IF_ERROR(check_experts("experts", layer.experts, width));
  if (layer.latent_size > 0) {
    SE_RETURN_IF_ERROR(check_matrix("latent_down", layer.latent_down, layer.latent_size,
                                    layer.hidden_size, layer.experts.dtype));
    SE_RETURN_IF_ERROR(check_matrix("latent_up", layer.latent_up, layer.hidden_size,
                                    layer.latent_size, layer.experts.dtype));
  }
  SE_CHECK_ARGUMENT(layer.shared.num_experts == 0 || layer.shared.num_experts == 1,
                    "layer: shared experts are one fused expert");
  SE_CHECK_ARGUMENT(find_name(kSharedGateNames, layer.shared_gate_mode),
                    "layer: unknown shared gate");
  if (layer.shared.num_experts == 1) {
    SE_RETURN_IF_ERROR(check_experts("shared experts", layer.shared, layer.hidden_size));
    SE_CHECK_ARGUMENT(layer.shared_gate_mode == SE_SHARED_PLAIN || layer.shared_gate != nullptr,
                      "layer: the gate of the shared experts is missing");
  }
  SE_CHECK_ARGUMENT(layer.router_input_scale == nullptr || std::isfinite(layer.router_norm_epsilon),
                    "layer: router_norm_epsilon must be finite");
  return Status::ok();
}

Status validate_layer_contents(const SeMoeLayer& layer) {
  SE_CHECK_ARGUMENT(layer.latent_size == 0 || (layer.latent_down.data[0] != nullptr &&
                                               layer.latent_up.data[0] != nullptr),
                    "layer: a latent projection is missing");
  const SeExperts& shared = layer.shared;
  SE_CHECK_ARGUMENT(
      shared.num_experts == 0 || (shared.up.data[0] != nullptr && shared.down.data[0] != nullptr &&
                                  (!shared.activation.gated || shared.gate.data[0] != nullptr)),
      "layer: a matrix of the shared experts is missing");
  return Status::ok();
}

Status validate_forward(const SeMoeLayer& layer, const SeForwardArgs& args) {
  SE_RETURN_IF_ERROR(validate_layer(layer));
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
  return validate_select(layer.routing, args.select, args.replay != 0);
}

Status validate_forward_contents(const SeMoeLayer& layer, const SeForwardArgs& args) {
  SE_RETURN_IF_ERROR(validate_layer_contents(layer));
  return validate_select_contents(layer.routing, args.select, args.replay != 0);
}

}  // namespace sparse_experts
