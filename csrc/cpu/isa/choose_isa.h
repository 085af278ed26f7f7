// Which instruction set the kernels use: the best one that the machine has, or the one forced by
// SPARSE_EXPERTS_CPU_ISA.
#pragma once

#include <string>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {

// Reads the environment at each call. NULL with a reason when the forced name is unknown or the
// machine lacks it.
const IsaKernels* choose_isa(std::string* reason);

// The kernels that multiply rows of x_dtype by weights of an SeMatrixCode; NULL where the set has
// none.
const MatmulKernel* find_matmul(const IsaKernels& kernels, int32_t x_dtype, int32_t code);
// Whether bf16 activations meet bf16 weights without being widened.
bool has_bf16_product(const IsaKernels& kernels);

// Every instruction set that this build holds and this machine runs, the best one last;
// NULL-terminated.
const IsaKernels* const* available_isas();

}  // namespace sparse_experts::cpu
