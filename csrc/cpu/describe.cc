#include "cpu/describe.h"

#include <cstdio>
#include <string>

#include "abi/enum_names.h"
#include "core/matrix_format.h"
#include "cpu/ops/expert_segments.h"

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

std::string matmul_text(const SeMatrixTable& table, int32_t dtype, bool bf16_dot) {
  SeMatrixFormat format = float_format(dtype);
  if (table.formats != nullptr) format = table.formats[0];
  const bool is_float = is_float_format(format);
  std::string text = format_text(format);
  if (table.num_formats > 1) text += ", mixed";
  if (!bf16_dot) return text + (is_float ? " widened, f32 FMA" : ", decoded to f32, f32 FMA");
  return is_float ? std::string("bf16 dot") : text + ", bf16 dot";
}

}  // namespace

void describe_forward(const IsaKernels& kernels, const SeMoeLayer& layer,
                      SeForwardDescription* description) {
  const std::string isa = kernels.name;
  const SeExperts& experts = layer.experts;
  const bool bf16_dot = has_bf16_activations(kernels, layer);
  const auto matmul = [&](const SeMatrixTable& table) {
    return isa + " " + matmul_text(table, experts.dtype, bf16_dot);
  };
  write(description->gate, isa + " f32 FMA");
  write(description->select, "partial selection per token");
  write(description->dispatch, "stable counting sort");
  const std::string panels = ", panels of " + std::to_string(kernels.panel_width);
  write(description->gate_up, matmul(experts.up) + panels + ", activation of " +
                                  (experts.activation.gated ? "gate and up" : "up") +
                                  " in the same pass");
  write(description->down, matmul(experts.down) + panels);
  write(description->combine, isa + ", fixed order over k");
}

}  // namespace sparse_experts::cpu
