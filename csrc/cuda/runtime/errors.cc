#include "cuda/runtime/errors.h"

namespace sparse_experts::cuda {

bool is_terminal(cudaError_t error) {
  // By number: they are fixed by the driver's interface, and not every toolkit names all of them.
  switch (static_cast<int>(error)) {
    case 4:    // the runtime is unloading
    case 214:  // ECC error that could not be corrected
    case 220:  // NVLink error that could not be corrected
    case 700:  // illegal address
    case 702:  // launch timeout
    case 709:  // context destroyed
    case 710:  // device-side assert
    case 714:  // hardware stack error
    case 715:  // illegal instruction
    case 716:  // misaligned address
    case 717:  // invalid address space
    case 718:  // invalid program counter
    case 719:  // launch failure
    case 721:  // fault contained to this process
    case 999:  // unknown
      return true;
    default:
      return false;
  }
}

std::string error_text(cudaError_t error, const char* what) {
  return std::string("cuda: ") + what + ": " + cudaGetErrorName(error) + " (" +
         cudaGetErrorString(error) + ")";
}

}  // namespace sparse_experts::cuda
