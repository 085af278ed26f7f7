#include "cuda/runtime/memory.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "core/numeric.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// Buffers grow in steps: calls that differ by a few tokens share one size.
constexpr uint64_t kGrowBytes = 64 << 10;

}  // namespace

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

Status DeviceBuffer::reserve(uint64_t bytes) {
  if (bytes <= bytes_) return Status::ok();
  release();
  const uint64_t rounded = round_up(bytes, kGrowBytes);
  SE_RETURN_IF_ERROR(allocate_device(device_, rounded, &data_));
  bytes_ = rounded;
  return Status::ok();
}

void DeviceBuffer::release() {
  free_device(device_, data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
}

Status PinnedBuffer::reserve(uint64_t bytes) {
  if (bytes <= bytes_) return Status::ok();
  release();
  const uint64_t rounded = round_up(bytes, kGrowBytes);
  device_.counters().device_allocations += 1;
  const cudaError_t error = cudaMallocHost(&data_, rounded);
  if (error != cudaSuccess) {
    data_ = nullptr;
    return device_.failure(error, "cudaMallocHost", rounded);
  }
  bytes_ = rounded;
  device_.counters().pinned_bytes += rounded;
  return Status::ok();
}

void PinnedBuffer::release() {
  if (data_ == nullptr) return;
  if (device_.enter().is_ok()) {
    device_.counters().pinned_bytes -= bytes_;
    static_cast<void>(device_.check(cudaFreeHost(data_), "cudaFreeHost"));
  }
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace sparse_experts::cuda
