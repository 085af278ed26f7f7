#include "cpu/describe.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "abi/enum_names.h"
#include "core/matrix_format.h"
#include "cpu/forward_plan.h"
#include "cpu/ops/code_rows.h"

namespace sparse_experts::cpu {
namespace {

template <size_t kSize>
void write(char (&field)[kSize], const std::string& text) {
  std::snprintf(field, kSize, "%s", text.c_str());
}

// "u4 f16/32 in place": what a matrix stores, and what scales how many of its rows and columns.
std::string format_text(const SeMatrixFormat& format) {
  std::string code = find_name(kMatrixCodeNames, format.code)->name;
  if (is_float_format(format)) return code;
  std::string block = std::to_string(format.block_cols);
  if (format.block_rows > 1) block = std::to_string(format.block_rows) + "x" + block;
  return code + " " + find_name(kScaleNames, format.scale)->name + "/" + block + " in place";
}

SeMatrixFormat first_format(const SeMatrixTable& table, int32_t dtype) {
  return table.formats != nullptr ? table.formats[0] : float_format(dtype);
}

// What multiplies: rows of codes by all matrices of the table, by some, or by none.
std::string product_text(const IsaKernels& kernels, const SeMatrixTable& table, int32_t dtype,
                         const ForwardPlan& plan) {
  int64_t coded = 0;
  if (plan.coded_activations && table.formats != nullptr) {
    coded = std::count_if(
        table.formats, table.formats + table.num_formats,
        [&](const SeMatrixFormat& format) { return has_coded_product(kernels, format); });
  }
  if (coded > 0 && coded == table.num_formats) return "int8 activations, int32 dot";
  const bool is_float = is_float_format(first_format(table, dtype));
  const std::string exact = plan.bf16_activations ? "bf16 dot"
                            : is_float            ? "widened, f32 FMA"
                                                  : "decoded to f32, f32 FMA";
  return coded == 0 ? exact : "int8 activations in part, " + exact;
}

std::string matmul_text(const IsaKernels& kernels, const SeMatrixTable& table, int32_t dtype,
                        const ForwardPlan& plan) {
  const SeMatrixFormat format = first_format(table, dtype);
  const std::string product = product_text(kernels, table, dtype, plan);
  if (is_float_format(format) && table.num_formats <= 1)
    return plan.bf16_activations ? product : format_text(format) + " " + product;
  return format_text(format) + (table.num_formats > 1 ? ", mixed, " : ", ") + product;
}

}  // namespace

void describe_forward(const IsaKernels& kernels, const SeMoeLayer& layer,
                      const SeLayerOptions& options, SeForwardDescription* description) {
  const std::string isa = kernels.name;
  const SeExperts& experts = layer.experts;
  const ForwardPlan plan = plan_forward(kernels, layer, options, 1);
  const auto product = [&](const SeMatrixTable& table) {
    return product_text(kernels, table, experts.dtype, plan);
  };
  const auto matmul = [&](const SeMatrixTable& table) {
    return isa + " " + matmul_text(kernels, table, experts.dtype, plan);
  };
  // What is said of up holds for gate, which most often is held alike.
  const bool differs = experts.activation.gated && product(experts.gate) != product(experts.up);
  write(description->gate, isa + " f32 FMA");
  write(description->select, "partial selection per token");
  write(description->dispatch, "stable counting sort");
  const std::string panels = ", panels of " + std::to_string(kernels.panel_width);
  const std::string gate = differs ? " (gate: " + product(experts.gate) + ")" : "";
  write(description->gate_up, matmul(experts.up) + gate + panels + ", activation of " +
                                  (experts.activation.gated ? "gate and up" : "up") +
                                  " in the same pass");
  write(description->down, matmul(experts.down) + panels);
  write(description->combine, isa + ", fixed order over k");
}

}  // namespace sparse_experts::cpu
