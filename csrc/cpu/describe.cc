#include "cpu/describe.h"

#include <cstdio>
#include <string>

#include "core/dtype.h"
#include "cpu/isa/choose_isa.h"

namespace sparse_experts::cpu {
namespace {

template <size_t kSize>
void write(char (&field)[kSize], const std::string& text) {
  std::snprintf(field, kSize, "%s", text.c_str());
}

}  // namespace

void describe_forward(const IsaKernels& kernels, const SeMoeLayer& layer,
                      SeForwardDescription* description) {
  const std::string isa = kernels.name;
  const SeExperts& experts = layer.experts;
  const bool bf16_dot = has_bf16_product(kernels) && experts.dtype == SE_BF16;
  const std::string matmul =
      isa +
      (bf16_dot ? " bf16 dot" : std::string(" ") + dtype_name(experts.dtype) + " widened, f32 FMA");
  write(description->gate, isa + " f32 FMA");
  write(description->select, "partial selection per token");
  write(description->dispatch, "stable counting sort");
  const std::string panels = ", panels of " + std::to_string(kernels.panel_width);
  write(description->gate_up, matmul + panels + ", activation of " +
                                  (experts.activation.gated ? "gate and up" : "up") +
                                  " in the same pass");
  write(description->down, matmul + panels);
  write(description->combine, isa + ", fixed order over k");
}

}  // namespace sparse_experts::cpu
