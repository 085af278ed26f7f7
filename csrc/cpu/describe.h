// What a forward runs, in words: one line per stage.
#pragma once

#include "abi/backend.h"
#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {

void describe_forward(const IsaKernels& kernels, const SeMoeLayer& layer,
                      const SeLayerOptions& options, SeForwardDescription* description);

}  // namespace sparse_experts::cpu
