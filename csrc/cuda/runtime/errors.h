// What an error of the CUDA runtime means for the device.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace sparse_experts::cuda {

// The context is gone: every later call on the device would fail with this error.
bool is_terminal(cudaError_t error);

// "cuda: WHAT: cudaErrorName (text)".
std::string error_text(cudaError_t error, const char* what);

}  // namespace sparse_experts::cuda
