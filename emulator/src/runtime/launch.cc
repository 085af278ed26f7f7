// Kernels: queueing them, what they may use, and what becomes of a device whose kernel is
// defective.
#include "simt/launch.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "runtime/capture.h"
#include "runtime/queue.h"
#include "runtime/state.h"
#include "simt/engine.h"

using namespace simt::runtime;

namespace {

constexpr size_t kPlainSharedBytes = 48 * 1024;

cudaError_t run_kernel(int device, const simt::KernelLaunch& launch) {
  Runtime& state = runtime();
  {
    const Lock lock(state.mutex);
    ++state.counters.kernels_run;
    if (fault_due(state, "sticky")) {
      report(state, "planned failure: an illegal address in " + launch.name + " on device " +
                        std::to_string(device));
      return cudaErrorIllegalAddress;
    }
  }
  simt::Defect defect;
  if (simt::run_grid(launch, &defect)) return cudaSuccess;
  const Lock lock(state.mutex);
  report(state, simt::describe(defect));
  return cudaErrorLaunchFailure;
}

}  // namespace

namespace simt {

cudaError_t enqueue_launch(KernelLaunch&& launch, cudaStream_t handle) {
  return attempt(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr || stream->device != thread_state().device) {
      return cudaErrorInvalidResourceHandle;
    }
    const auto refused = [stream](cudaError_t error) {
      if (stream->capture != nullptr) stream->capture->invalid = true;
      return error;
    };
    if (current_device(state).model.compute_capability < 80) {
      return refused(cudaErrorNoKernelImageForDevice);
    }
    if (fault_due(state, "launch")) return refused(cudaErrorLaunchOutOfResources);
    ++state.counters.launches;
    const int device = stream->device;
    Work work;
    work.kind = "kernel";
    work.run = [device, kernel = std::make_shared<const KernelLaunch>(std::move(launch))] {
      return run_kernel(device, *kernel);
    };
    OperationPointer queued;
    const cudaError_t error = submit(state, stream, std::move(work), &queued);
    if (error == cudaSuccess) relieve(state, lock, queued);
    return error;
  });
}

size_t kernel_shared_limit(const void* function) {
  Runtime& state = runtime::runtime();
  const Lock lock(state.mutex);
  if (state.devices.empty()) return kPlainSharedBytes;
  const auto& limits = current_device(state).shared_limits;
  const auto found = limits.find(function);
  return found == limits.end() ? kPlainSharedBytes : std::max(found->second, kPlainSharedBytes);
}

}  // namespace simt

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (function == nullptr) return cudaErrorInvalidDeviceFunction;
    Device& device = current_device(state);
    if (device.model.compute_capability < 80) return cudaErrorNoKernelImageForDevice;
    switch (attribute) {
      case cudaFuncAttributeMaxDynamicSharedMemorySize:
        if (value < 0 || value > device.model.shared_bytes_per_block()) {
          return cudaErrorInvalidValue;
        }
        device.shared_limits[function] = static_cast<size_t>(value);
        return cudaSuccess;
      case cudaFuncAttributePreferredSharedMemoryCarveout:
        return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
      default:
        return cudaErrorInvalidValue;
    }
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (attributes == nullptr) return cudaErrorInvalidValue;
    if (function == nullptr) return cudaErrorInvalidDeviceFunction;
    const Device& device = current_device(state);
    if (device.model.compute_capability < 80) return cudaErrorNoKernelImageForDevice;
    *attributes = {};
    attributes->maxThreadsPerBlock = 1024;
    attributes->ptxVersion = attributes->binaryVersion = device.model.compute_capability;
    const auto found = device.shared_limits.find(function);
    attributes->maxDynamicSharedSizeBytes =
        static_cast<int>(found == device.shared_limits.end() ? kPlainSharedBytes : found->second);
    attributes->preferredShmemCarveout = -1;
    return cudaSuccess;
  });
}

// By threads, blocks and shared memory; registers are unknown here.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* num_blocks, const void* function,
                                                          int block_size, size_t shared_bytes) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (num_blocks == nullptr || block_size < 1) return cudaErrorInvalidValue;
    if (function == nullptr) return cudaErrorInvalidDeviceFunction;
    const Device& device = current_device(state);
    const DeviceModel& model = device.model;
    if (model.compute_capability < 80) return cudaErrorNoKernelImageForDevice;
    const auto found = device.shared_limits.find(function);
    const size_t limit = found == device.shared_limits.end() ? kPlainSharedBytes : found->second;
    *num_blocks = 0;
    if (block_size > 1024 || shared_bytes > limit) return cudaSuccess;
    const int warps = (block_size + 31) / 32;
    const int by_threads = model.threads_per_multiprocessor() / (warps * 32);
    const int64_t reserved = model.compute_capability >= 80 ? 1024 : 0;
    const int64_t shared = (static_cast<int64_t>(shared_bytes) + 127) / 128 * 128 + reserved;
    const int64_t by_shared =
        shared == 0 ? by_threads : model.shared_bytes_per_multiprocessor() / shared;
    *num_blocks = static_cast<int>(
        std::min<int64_t>({by_threads, by_shared, model.blocks_per_multiprocessor()}));
    return cudaSuccess;
  });
}

}  // extern "C"
