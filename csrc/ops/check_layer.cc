#include "core/matrix_format.h"
#include "ops/checks.h"
#include "ops/contract.h"

namespace sparse_experts {
namespace {

// Of one layer.
struct Formats {
  int32_t dtype;
  HoldsFormat holds;
};

Status check_formats(const std::string& label, const SeMatrixTable& matrix, int64_t count,
                     const Formats& formats) {
  if (matrix.formats == nullptr) return Status::ok();
  SE_CHECK_ARGUMENT(matrix.num_formats >= 1 && matrix.num_formats <= 256,
                    label + ": num_formats out of range");
  for (int64_t i = 0; i < matrix.num_formats; ++i)
    SE_CHECK_ARGUMENT(formats.holds(formats.dtype, matrix.formats[i]),
                      label + ": the format of the matrices is not computed in place");
  if (matrix.format_of == nullptr) return Status::ok();
  for (int64_t e = 0; e < count; ++e)
    SE_CHECK_ARGUMENT(matrix.format_of[e] < matrix.num_formats,
                      label + ": no such format: " + std::to_string(matrix.format_of[e]));
  return Status::ok();
}

Status check_matrix(const std::string& label, const SeMatrixTable& matrix, int64_t count,
                    int64_t rows, int64_t cols, const Formats& formats) {
  SE_CHECK_ARGUMENT(matrix.data != nullptr, label + ": no matrices");
  SE_CHECK_ARGUMENT(matrix.rows == rows && matrix.cols == cols,
                    label + ": expected [" + std::to_string(rows) + ", " + std::to_string(cols) +
                        "], received [" + std::to_string(matrix.rows) + ", " +
                        std::to_string(matrix.cols) + "]");
  SE_CHECK_ARGUMENT(matrix.row_stride >= cols && matrix.row_stride <= kMaxExtent,
                    label + ": row_stride is below the number of columns");
  return check_formats(label, matrix, count, formats);
}

Status check_experts(const std::string& name, const SeExperts& experts, int64_t width,
                     HoldsFormat holds) {
  SE_CHECK_ARGUMENT(is_float_dtype(experts.dtype), name + ": dtype must be f32, f16 or bf16");
  const int64_t intermediate = experts.up.rows;
  SE_CHECK_ARGUMENT(intermediate >= 1 && is_extent(intermediate),
                    name + ": intermediate size out of range");
  const Formats formats = {experts.dtype, holds};
  const int64_t count = experts.num_experts;
  SE_RETURN_IF_ERROR(check_matrix(name + " up", experts.up, count, intermediate, width, formats));
  SE_RETURN_IF_ERROR(
      check_matrix(name + " down", experts.down, count, width, intermediate, formats));
  if (experts.activation.gated)
    SE_RETURN_IF_ERROR(
        check_matrix(name + " gate", experts.gate, count, intermediate, width, formats));
  const SeBiasTable* biases[] = {&experts.gate_bias, &experts.up_bias, &experts.down_bias};
  for (const SeBiasTable* bias : biases)
    SE_CHECK_ARGUMENT(bias->data == nullptr || bias->stride >= 1,
                      name + ": bias stride must be positive");
  return Status::ok();
}

}  // namespace

Status check_routing(const SeRouting& routing) {
  SE_CHECK_ARGUMENT(routing.num_experts >= 1 && routing.num_experts <= INT32_MAX / 2,
                    "routing: num_experts out of range");
  SE_CHECK_ARGUMENT(
      routing.num_identity_experts >= 0 && routing.num_identity_experts <= routing.num_experts,
      "routing: num_identity_experts out of range");
  SE_CHECK_ARGUMENT(routing.top_k >= 1 && routing.top_k <= routing.num_experts,
                    "routing: top_k must be in [1, num_experts]");
  // It writes two slots.
  SE_CHECK_ARGUMENT(routing.scoring != SE_SPARSEMIXER || routing.top_k == 2,
                    "routing: sparsemixer selects exactly 2 experts");
  const int64_t num_groups = routing.num_expert_groups;
  SE_CHECK_ARGUMENT(num_groups >= 1 && routing.num_experts % num_groups == 0,
                    "routing: num_expert_groups must divide num_experts");
  SE_CHECK_ARGUMENT(
      num_groups == 1 || (routing.topk_group >= 1 && routing.topk_group <= num_groups),
      "routing: topk_group must be in [1, num_expert_groups]");
  SE_CHECK_ARGUMENT(
      !routing.hash_routed || (routing.hash_table != nullptr && routing.vocab_size > 0),
      "routing: hash routing needs its table");
  return Status::ok();
}

Status check_layer(const SeMoeLayer& layer, HoldsFormat holds) {
  const SeRouting& routing = layer.routing;
  SE_RETURN_IF_ERROR(check_routing(routing));
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
  if (num_real > 0) SE_RETURN_IF_ERROR(check_experts("experts", layer.experts, width, holds));
  if (layer.latent_size > 0) {
    const Formats formats = {layer.experts.dtype, holds};
    SE_RETURN_IF_ERROR(check_matrix("latent_down", layer.latent_down, 1, layer.latent_size,
                                    layer.hidden_size, formats));
    SE_RETURN_IF_ERROR(check_matrix("latent_up", layer.latent_up, 1, layer.hidden_size,
                                    layer.latent_size, formats));
  }
  SE_CHECK_ARGUMENT(layer.shared.num_experts == 0 || layer.shared.num_experts == 1,
                    "layer: shared experts are one fused expert");
  if (layer.shared.num_experts == 1) {
    SE_RETURN_IF_ERROR(check_experts("shared experts", layer.shared, layer.hidden_size, holds));
    SE_CHECK_ARGUMENT(layer.shared_gate_mode == SE_SHARED_PLAIN || layer.shared_gate != nullptr,
                      "layer: the gate of the shared experts is missing");
  }
  return Status::ok();
}

Status check_layer_contents(const SeMoeLayer& layer) {
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

Status check_expert_matrices(const SeExperts& all, const SeLayerOptions& options,
                             const int32_t* experts, int64_t num_experts,
                             const SeExpertMatrices* matrices) {
  SE_CHECK_ARGUMENT(options.cached != 0, "experts come and go only in a cached layer");
  for (int64_t i = 0; i < num_experts; ++i) {
    SE_CHECK_ARGUMENT(experts[i] >= 0 && experts[i] < all.num_experts,
                      "there is no expert " + std::to_string(experts[i]));
    const bool is_here = matrices[i].up != nullptr;
    SE_CHECK_ARGUMENT((matrices[i].down != nullptr) == is_here &&
                          (!all.activation.gated || (matrices[i].gate != nullptr) == is_here),
                      "expert " + std::to_string(experts[i]) + " has some of its matrices only");
  }
  return Status::ok();
}

}  // namespace sparse_experts
