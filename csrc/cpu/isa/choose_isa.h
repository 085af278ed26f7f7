// Which instruction set the kernels use: the best one that the machine has, or the one forced by
// SPARSE_EXPERTS_CPU_ISA.
#pragma once

#include <string>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {

// Reads the environment at each call. NULL with a reason when the forced name is unknown or the
// machine lacks it.
const IsaKernels* choose_isa(std::string* reason);

// Every instruction set that this build holds and this machine runs, the best one last;
// NULL-terminated.
const IsaKernels* const* available_isas();

}  // namespace sparse_experts::cpu
