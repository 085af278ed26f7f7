// Names and texts of errors, and the last error of the calling thread.
#include "runtime/state.h"

using namespace simt::runtime;

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  switch (static_cast<int>(error)) {
#define SIMT_NAME(value, name, text) \
  case value:                        \
    return #name;
    SIMT_CUDA_ERRORS(SIMT_NAME)
#undef SIMT_NAME
    default:
      return "unrecognized error code";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (static_cast<int>(error)) {
#define SIMT_TEXT(value, name, text) \
  case value:                        \
    return text;
    SIMT_CUDA_ERRORS(SIMT_TEXT)
#undef SIMT_TEXT
    default:
      return "unrecognized error code";
  }
}

cudaError_t cudaPeekAtLastError(void) {
  Runtime& state = runtime();
  const Lock lock(state.mutex);
  if (!state.devices.empty() && current_device(state).failure != cudaSuccess) {
    return current_device(state).failure;
  }
  return thread_state().last_error;
}

cudaError_t cudaGetLastError(void) {
  const cudaError_t error = cudaPeekAtLastError();
  thread_state().last_error = cudaSuccess;  // a failed device says so again
  return error;
}

}  // extern "C"
