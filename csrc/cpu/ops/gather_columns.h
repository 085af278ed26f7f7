// Activations for weights whose columns lie in another order than the layer's (SE_FORMAT_PERMUTED):
// each row is copied once into that order, so that kernels read it as any other.
#pragma once

#include <cstdint>

#include "abi/backend.h"

namespace sparse_experts::cpu {

struct RunContext;

// Elements of the activation type that gather_columns needs for a wave of num_tokens tokens: those
// of the matmuls that run together and need most. 0 where no matrix of the layer is permuted.
int64_t gathered_elements(const SeMoeLayer& layer, int64_t num_tokens);

// Gives every segment of context.device->segments whose weights are permuted rows of its own in
// `scratch`. All of them are packed.
void gather_columns(const RunContext& context, char* scratch);

}  // namespace sparse_experts::cpu
