// How kernels are written and launched so that nvcc and the emulator both take the same source.
//   - shared memory only through SE_SHARED and SE_DYNAMIC_SHARED
//   - no <<<>>> and no cudaLaunchKernel but in launch()
//   - every kernel begins with await_launches()
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "cuda/common/ptx.cuh"
#include "cuda/ops/launch_stream.h"

#if defined(SIMT_EMULATOR)
#include <simt/launch.h>
#endif

// SE_SHARED(float, sums, 32): an array of 32 floats, one per block.
// SE_DYNAMIC_SHARED(tile): the launch's shared bytes as `unsigned char* tile`, 128-byte aligned.
#if defined(SIMT_EMULATOR)
#define SE_SHARED(type, name, count) type* const name = SIMT_STATIC_SHARED(type, count)
#define SE_DYNAMIC_SHARED(name) unsigned char* const name = simt::dynamic_shared()
#else
#define SE_SHARED(type, name, count) __shared__ type name[count]
#define SE_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

namespace sparse_experts::cuda {

// Queues a kernel. What the launch reports is returned and taken out of the runtime's state, unless
// it is sticky. `shared_bytes` beyond 48 KiB needs allow_shared_bytes first.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   LaunchStream stream, Arguments&&... arguments) {
#if defined(SIMT_EMULATOR)
  return simt::launch(stream.early ? simt::Start::kEarly : simt::Start::kAfter, kernel, grid, block,
                      shared_bytes, stream.handle, static_cast<Parameters>(arguments)...);
#else
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream.handle;
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = stream.early ? 1 : 0;
  const cudaError_t error =
      cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  return error;
#endif
}

// The first statement of every kernel, before a thread returns, reads what a kernel before it wrote or
// writes anything: waits for the kernels before, and lets the next one start. In this order, because
// whatever starts then finds all that is older than its predecessor complete.
__device__ __forceinline__ void await_launches() {
  ptx::dependency_wait();
  ptx::launch_dependents();
}

// Raises the kernel's limit of dynamic shared memory on the current device.
template <typename... Parameters>
cudaError_t allow_shared_bytes(void (*kernel)(Parameters...), size_t shared_bytes) {
  if (shared_bytes <= 48 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(shared_bytes));
}

}  // namespace sparse_experts::cuda
