// Activations as codes of 8 bits, for weights whose codes they are multiplied by as integers
// (CodedSlab in cpu/isa/isa.h). Each row is encoded once for all matrices that read it.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {

struct RunContext;

// Whether rows of codes have a product with weights in a format.
bool has_coded_product(const IsaKernels& kernels, const SeMatrixFormat& format);

// Bytes that code_rows needs for a wave of num_tokens tokens: those of the matmuls that run together
// and need most.
int64_t coded_bytes(const IsaKernels& kernels, const SeMoeLayer& layer, int64_t num_tokens);

// Gives every segment of context.device->segments rows of codes in `scratch` for each of its matrices
// that has a product with them. All of them are packed, and have rows of f32 in slabs.
void code_rows(const RunContext& context, char* scratch);

}  // namespace sparse_experts::cpu
