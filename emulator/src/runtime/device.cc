// Devices: how many, what they are, and waiting for one.
#include <cstdio>
#include <cstring>
#include <vector>

#include "runtime/capture.h"
#include "runtime/memory_table.h"
#include "runtime/queue.h"
#include "runtime/state.h"

using namespace simt::runtime;

namespace {

bool exists(const Runtime& state, int device) {
  return device >= 0 && static_cast<size_t>(device) < state.devices.size();
}

cudaError_t attribute_of(const DeviceModel& model, int device, cudaDeviceAttr attribute,
                         int* value) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      *value = 1024;
      break;
    case cudaDevAttrMaxBlockDimZ:
      *value = 64;
      break;
    case cudaDevAttrMaxGridDimX:
    case cudaDevAttrMaxPitch:
      *value = 2147483647;
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = 65535;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 48 * 1024;
      break;
    case cudaDevAttrTotalConstantMemory:
      *value = 64 * 1024;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = 65536;
      break;
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate:
      *value = 1000000;  // kHz
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = 1024;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = model.multiprocessors;
      break;
    case cudaDevAttrPciBusId:
      *value = device + 1;
      break;
    case cudaDevAttrL2CacheSize:
      *value = static_cast<int>(model.l2_bytes());
      break;
    case cudaDevAttrMaxPersistingL2CacheSize:
      *value = static_cast<int>(model.l2_bytes() / 4 * 3);
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = model.threads_per_multiprocessor();
      break;
    case cudaDevAttrAsyncEngineCount:
      *value = 2;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = model.compute_capability / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = model.compute_capability % 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(model.shared_bytes_per_multiprocessor());
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(model.shared_bytes_per_block());
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = model.blocks_per_multiprocessor();
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = model.compute_capability >= 80 ? 1024 : 0;
      break;
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrHostRegisterSupported:
      *value = 1;
      break;
    case cudaDevAttrKernelExecTimeout:
    case cudaDevAttrIntegrated:
    case cudaDevAttrComputeMode:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrConcurrentManagedAccess:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrMemoryPoolsSupported:
      *value = 0;
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
  return call(Needs::kNothing, [&](Runtime& state, Lock&) -> cudaError_t {
    if (version == nullptr) return cudaErrorInvalidValue;
    *version = state.driver_version;
    return cudaSuccess;
  });
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  return call(Needs::kNothing, [&](Runtime&, Lock&) -> cudaError_t {
    if (version == nullptr) return cudaErrorInvalidValue;
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceCount(int* count) {
  return call(Needs::kNothing, [&](Runtime& state, Lock&) -> cudaError_t {
    if (count == nullptr) return cudaErrorInvalidValue;
    *count = 0;
    if (!state.has_driver) return cudaErrorInsufficientDriver;
    if (state.devices.empty()) return cudaErrorNoDevice;
    *count = static_cast<int>(state.devices.size());
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (!exists(state, device)) return cudaErrorInvalidDevice;
    thread_state().device = device;
    return current_device(state).failure;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return call(Needs::kDevice, [&](Runtime&, Lock&) -> cudaError_t {
    if (device == nullptr) return cudaErrorInvalidValue;
    *device = thread_state().device;
    return cudaSuccess;
  });
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (!exists(state, device)) return cudaErrorInvalidDevice;
    return state.devices[static_cast<size_t>(device)]->failure;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (value == nullptr) return cudaErrorInvalidValue;
    if (!exists(state, device)) return cudaErrorInvalidDevice;
    return attribute_of(state.devices[static_cast<size_t>(device)]->model, device, attribute,
                        value);
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (properties == nullptr) return cudaErrorInvalidValue;
    if (!exists(state, device)) return cudaErrorInvalidDevice;
    const DeviceModel& model = state.devices[static_cast<size_t>(device)]->model;
    const auto value = [&](cudaDeviceAttr attribute) {
      int result = 0;
      static_cast<void>(attribute_of(model, device, attribute, &result));
      return result;
    };
    cudaDeviceProp out = {};
    std::snprintf(out.name, sizeof out.name, "Emulated GPU (sm_%d)", model.compute_capability);
    out.totalGlobalMem = static_cast<size_t>(model.memory_bytes);
    out.sharedMemPerBlock = static_cast<size_t>(value(cudaDevAttrMaxSharedMemoryPerBlock));
    out.regsPerBlock = value(cudaDevAttrMaxRegistersPerBlock);
    out.warpSize = value(cudaDevAttrWarpSize);
    out.memPitch = static_cast<size_t>(value(cudaDevAttrMaxPitch));
    out.maxThreadsPerBlock = value(cudaDevAttrMaxThreadsPerBlock);
    out.maxThreadsDim[0] = value(cudaDevAttrMaxBlockDimX);
    out.maxThreadsDim[1] = value(cudaDevAttrMaxBlockDimY);
    out.maxThreadsDim[2] = value(cudaDevAttrMaxBlockDimZ);
    out.maxGridSize[0] = value(cudaDevAttrMaxGridDimX);
    out.maxGridSize[1] = value(cudaDevAttrMaxGridDimY);
    out.maxGridSize[2] = value(cudaDevAttrMaxGridDimZ);
    out.totalConstMem = static_cast<size_t>(value(cudaDevAttrTotalConstantMemory));
    out.major = value(cudaDevAttrComputeCapabilityMajor);
    out.minor = value(cudaDevAttrComputeCapabilityMinor);
    out.multiProcessorCount = value(cudaDevAttrMultiProcessorCount);
    out.canMapHostMemory = value(cudaDevAttrCanMapHostMemory);
    out.concurrentKernels = value(cudaDevAttrConcurrentKernels);
    out.pciBusID = value(cudaDevAttrPciBusId);
    out.asyncEngineCount = value(cudaDevAttrAsyncEngineCount);
    out.unifiedAddressing = value(cudaDevAttrUnifiedAddressing);
    out.memoryBusWidth = value(cudaDevAttrGlobalMemoryBusWidth);
    out.l2CacheSize = value(cudaDevAttrL2CacheSize);
    out.persistingL2CacheMaxSize = value(cudaDevAttrMaxPersistingL2CacheSize);
    out.maxThreadsPerMultiProcessor = value(cudaDevAttrMaxThreadsPerMultiProcessor);
    out.streamPrioritiesSupported = value(cudaDevAttrStreamPrioritiesSupported);
    out.sharedMemPerMultiprocessor =
        static_cast<size_t>(value(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
    out.regsPerMultiprocessor = value(cudaDevAttrMaxRegistersPerMultiprocessor);
    out.sharedMemPerBlockOptin =
        static_cast<size_t>(value(cudaDevAttrMaxSharedMemoryPerBlockOptin));
    out.maxBlocksPerMultiProcessor = value(cudaDevAttrMaxBlocksPerMultiprocessor);
    out.reservedSharedMemPerBlock =
        static_cast<size_t>(value(cudaDevAttrReservedSharedMemoryPerBlock));
    out.hostRegisterSupported = value(cudaDevAttrHostRegisterSupported);
    *properties = out;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (text == nullptr || length < 1) return cudaErrorInvalidValue;
    if (!exists(state, device)) return cudaErrorInvalidDevice;
    std::snprintf(text, static_cast<size_t>(length), "0000:%02X:00.0",
                  static_cast<unsigned>(device + 1) & 0xffu);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return call(Needs::kHealthy, [&](Runtime&, Lock&) -> cudaError_t {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize(void) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    const int device = thread_state().device;
    cudaError_t error = refuse_device(state, device);
    if (error == cudaSuccess) error = refuse_unsafe(state);
    if (error != cudaSuccess) return error;
    ++state.counters.synchronisations;
    run_device(state, lock, device);
    return state.devices[static_cast<size_t>(device)]->failure;
  });
}

// Gives back everything that the device holds. A failed device stays failed, as CUDA says it may.
cudaError_t cudaDeviceReset(void) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    const int device = thread_state().device;
    cudaError_t error = refuse_device(state, device);
    if (error == cudaSuccess) error = refuse_unsafe(state);
    if (error != cudaSuccess) return error;
    run_device(state, lock, device);
    Device& owner = *state.devices[static_cast<size_t>(device)];
    if (owner.failure != cudaSuccess) return owner.failure;
    std::vector<uintptr_t> addresses;
    for (const auto& [address, allocation] : state.allocations) {
      if (allocation.device == device) addresses.push_back(address);
    }
    for (const uintptr_t address : addresses) release(state, address);
    const std::vector<CUstream_st*> streams(state.streams.begin(), state.streams.end());
    for (CUstream_st* stream : streams) {
      if (stream->device != device) continue;
      state.streams.erase(stream);
      --state.counters.live_streams;
      delete stream;
    }
    const std::vector<CUevent_st*> events(state.events.begin(), state.events.end());
    for (CUevent_st* event : events) {
      if (event->device != device) continue;
      state.events.erase(event);
      --state.counters.live_events;
      delete event;
    }
    owner.legacy.tail = nullptr;
    owner.shared_limits.clear();
    return cudaSuccess;
  });
}

}  // extern "C"
