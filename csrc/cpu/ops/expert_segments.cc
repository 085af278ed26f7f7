#include "cpu/ops/expert_segments.h"

#include "core/matrix_format.h"
#include "cpu/isa/choose_isa.h"

namespace sparse_experts::cpu {
namespace {

// Matrix e of a table; NULL where the table or the entry is absent.
const void* matrix_of(const SeMatrixTable& table, int64_t e) {
  return table.data != nullptr ? table.data[e] : nullptr;
}

const float* bias_of(const SeBiasTable& table, int64_t e) {
  return table.data != nullptr ? table.data[e] : nullptr;
}

bool have_bf16_products(const IsaKernels& kernels, const SeMatrixTable& table, int32_t dtype) {
  if (table.data == nullptr) return true;
  if (table.formats == nullptr)
    return find_matmul(kernels, SE_BF16, float_format(dtype).code) != nullptr;
  for (int64_t i = 0; i < table.num_formats; ++i) {
    if (find_matmul(kernels, SE_BF16, table.formats[i].code) == nullptr) return false;
  }
  return true;
}

bool have_bf16_products(const IsaKernels& kernels, const SeExperts& experts) {
  return experts.dtype == SE_BF16 && have_bf16_products(kernels, experts.gate, experts.dtype) &&
         have_bf16_products(kernels, experts.up, experts.dtype) &&
         have_bf16_products(kernels, experts.down, experts.dtype);
}

}  // namespace

bool has_bf16_activations(const IsaKernels& kernels, const SeMoeLayer& layer) {
  const int32_t dtype = layer.experts.dtype;
  return have_bf16_products(kernels, layer.experts) &&
         (layer.shared.num_experts == 0 || have_bf16_products(kernels, layer.shared)) &&
         (layer.latent_size == 0 || (have_bf16_products(kernels, layer.latent_down, dtype) &&
                                     have_bf16_products(kernels, layer.latent_up, dtype)));
}

bool is_present(const SeExperts& experts, int64_t e) {
  return matrix_of(experts.up, e) != nullptr && matrix_of(experts.down, e) != nullptr &&
         (!experts.activation.gated || matrix_of(experts.gate, e) != nullptr);
}

MatmulSegment first_segment(const SeExperts& experts, int64_t e, bool bf16_activations) {
  MatmulSegment segment;
  segment.n = experts.up.rows;
  segment.k = experts.up.cols;
  segment.x_is_bf16 = bf16_activations;
  segment.up_format = format_of(experts.up, e, experts.dtype);
  segment.is_packed = true;
  segment.up = experts.up.data[e];
  segment.up_bias = bias_of(experts.up_bias, e);
  segment.up_bias_stride = experts.up_bias.stride;
  if (experts.activation.gated) {
    segment.gate = experts.gate.data[e];
    segment.gate_format = format_of(experts.gate, e, experts.dtype);
    segment.gate_bias = bias_of(experts.gate_bias, e);
    segment.gate_bias_stride = experts.gate_bias.stride;
  }
  segment.activation = &experts.activation;
  segment.out_is_bf16 = bf16_activations;
  return segment;
}

MatmulSegment second_segment(const SeExperts& experts, int64_t e, bool bf16_activations) {
  MatmulSegment segment;
  segment.n = experts.down.rows;
  segment.k = experts.down.cols;
  segment.x_is_bf16 = bf16_activations;
  segment.up_format = format_of(experts.down, e, experts.dtype);
  segment.is_packed = true;
  segment.up = experts.down.data[e];
  segment.up_bias = bias_of(experts.down_bias, e);
  segment.up_bias_stride = experts.down_bias.stride;
  segment.out_layout = RowLayout::whole(segment.n);
  return segment;
}

MatmulSegment latent_segment(const SeMatrixTable& matrix, int32_t dtype, bool bf16_activations) {
  MatmulSegment segment;
  segment.n = matrix.rows;
  segment.k = matrix.cols;
  segment.x_is_bf16 = bf16_activations;
  segment.up_format = format_of(matrix, 0, dtype);
  segment.is_packed = true;
  segment.up = matrix.data[0];
  return segment;
}

}  // namespace sparse_experts::cpu
