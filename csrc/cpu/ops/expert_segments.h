// The matmuls of a layer's packed weights as segments; x, rows and output are left to the caller.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "cpu/ops/expert_matmul.h"

namespace sparse_experts::cpu {

// Every matrix that expert e needs is here. A false one (offload, expert parallelism) is left out
// of the sum.
bool is_present(const SeExperts& experts, int64_t e);

// Whether rows are rounded to bf16 before they meet the experts: the layer computes in bf16, and the
// instruction set has a product of bf16 with each format of its matrices.
bool has_bf16_activations(const IsaKernels& kernels, const SeMoeLayer& layer);

// Gate and up with bias and activation; the result is of the activation type.
MatmulSegment first_segment(const SeExperts& experts, int64_t e, bool bf16_activations);
// Down with bias; the result is f32, in whole rows.
MatmulSegment second_segment(const SeExperts& experts, int64_t e, bool bf16_activations);
// A projection into the experts' latent space or back.
MatmulSegment latent_segment(const SeMatrixTable& matrix, int32_t dtype, bool bf16_activations);

}  // namespace sparse_experts::cpu
