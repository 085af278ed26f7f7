#include "cuda/runtime/memory.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {

Status allocate_device(Device& device, uint64_t bytes, void** data) {
  *data = nullptr;
  // The driver may take an absurd size for an invalid argument.
  if (bytes > device.total_bytes()) return device.out_of_memory(bytes);
  device.counters().device_allocations += 1;
  const cudaError_t error = cudaMalloc(data, std::max<uint64_t>(bytes, 1));
  if (error != cudaSuccess) {
    *data = nullptr;
    return device.failure(error, "cudaMalloc", bytes);
  }
  device.counters().device_bytes += bytes;
  return Status::ok();
}

void free_device(Device& device, void* data, uint64_t bytes) {
  if (data == nullptr || !device.enter().is_ok()) return;
  device.counters().device_bytes -= bytes;
  static_cast<void>(device.check(cudaFree(data), "cudaFree"));
}

Status PinnedAllocator::allocate(Device& device, uint64_t bytes, void** data) {
  device.counters().device_allocations += 1;
  const cudaError_t error = cudaMallocHost(data, bytes);
  if (error != cudaSuccess) {
    *data = nullptr;
    return device.failure(error, "cudaMallocHost", bytes);
  }
  device.counters().pinned_bytes += bytes;
  return Status::ok();
}

void PinnedAllocator::free(Device& device, void* data, uint64_t bytes) {
  if (data == nullptr || !device.enter().is_ok()) return;
  device.counters().pinned_bytes -= bytes;
  static_cast<void>(device.check(cudaFreeHost(data), "cudaFreeHost"));
}

}  // namespace sparse_experts::cuda
