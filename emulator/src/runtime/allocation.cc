// Allocation calls. Freeing waits for the device, as cudaFree does.
#include "runtime/capture.h"
#include "runtime/memory_table.h"
#include "runtime/queue.h"
#include "runtime/state.h"

using namespace simt::runtime;

namespace {

cudaError_t allocate_for(void** pointer, size_t bytes, MemoryKind kind, const char* fault) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    const cudaError_t error = refuse_unsafe(state);
    if (error != cudaSuccess) return error;
    if (bytes == 0) {
      *pointer = nullptr;
      return cudaSuccess;
    }
    if (fault_due(state, fault)) return cudaErrorMemoryAllocation;
    void* made = allocate(state, kind, thread_state().device, bytes);
    if (made == nullptr) return cudaErrorMemoryAllocation;
    *pointer = made;
    return cudaSuccess;
  });
}

cudaError_t release_of(void* pointer, bool of_device) {
  return call(Needs::kDevice, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (pointer == nullptr) return current_device(state).failure;
    cudaError_t error = refuse_unsafe(state);
    if (error != cudaSuccess) return error;
    const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    auto found = state.allocations.find(address);
    const MemoryKind kind = of_device ? MemoryKind::kDevice : MemoryKind::kPinned;
    if (found == state.allocations.end() || found->second.kind != kind) {
      const cudaError_t failure = current_device(state).failure;
      return failure != cudaSuccess ? failure : cudaErrorInvalidValue;
    }
    const int device = found->second.device;
    error = refuse_device(state, device);
    if (error != cudaSuccess) return error;
    // Waits for the memory's device; pinned memory may be in use by any.
    for (size_t i = 0; i < state.devices.size(); ++i) {
      if (!of_device || static_cast<int>(i) == device) {
        run_device(state, lock, static_cast<int>(i));
      }
    }
    lock.unlock();
    const Lock execution(state.execution);
    lock.lock();
    // A failed device cannot take its memory back; here it is freed all the same, and the call
    // fails.
    if (state.allocations.count(address) != 0) release(state, address);
    return state.devices[static_cast<size_t>(device)]->failure;
  });
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return allocate_for(pointer, bytes, MemoryKind::kDevice, "malloc");
}

cudaError_t cudaFree(void* pointer) { return release_of(pointer, true); }

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) {
  constexpr unsigned kKnown =
      cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
  if ((flags & ~kKnown) != 0) {
    return call(Needs::kHealthy, [](Runtime&, Lock&) { return cudaErrorInvalidValue; });
  }
  return allocate_for(pointer, bytes, MemoryKind::kPinned, "host");
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) { return release_of(pointer, false); }

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned flags) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    constexpr unsigned kKnown =
        cudaHostRegisterPortable | cudaHostRegisterMapped | cudaHostRegisterReadOnly;
    if (pointer == nullptr || bytes == 0 || (flags & ~kKnown) != 0) return cudaErrorInvalidValue;
    const cudaError_t error = refuse_unsafe(state);
    if (error != cudaSuccess) return error;
    if (locate(state, pointer, bytes).place != Place::kOutside) {
      return cudaErrorHostMemoryAlreadyRegistered;
    }
    state.allocations[reinterpret_cast<uintptr_t>(pointer)] = {bytes, MemoryKind::kRegistered,
                                                               thread_state().device};
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    const cudaError_t error = refuse_unsafe(state);
    if (error != cudaSuccess) return error;
    const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    const auto found = state.allocations.find(address);
    if (found == state.allocations.end() || found->second.kind != MemoryKind::kRegistered) {
      return cudaErrorHostMemoryNotRegistered;
    }
    for (size_t i = 0; i < state.devices.size(); ++i) run_device(state, lock, static_cast<int>(i));
    state.allocations.erase(address);
    return current_device(state).failure;
  });
}

cudaError_t cudaHostGetDevicePointer(void** device_pointer, void* host_pointer, unsigned flags) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (device_pointer == nullptr || flags != 0) return cudaErrorInvalidValue;
    const Located located = locate(state, host_pointer, 1);
    if (located.place != Place::kInside || located.allocation.kind == MemoryKind::kDevice) {
      return cudaErrorInvalidValue;
    }
    *device_pointer = host_pointer;
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    const Device& device = current_device(state);
    if (free_bytes != nullptr) {
      *free_bytes = static_cast<size_t>(device.model.memory_bytes - device.used_bytes);
    }
    if (total_bytes != nullptr) *total_bytes = static_cast<size_t>(device.model.memory_bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (attributes == nullptr) return cudaErrorInvalidValue;
    const Located located = locate(state, pointer, 1);
    void* address = const_cast<void*>(pointer);
    if (located.place != Place::kInside) {
      *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, address};
    } else if (located.allocation.kind == MemoryKind::kDevice) {
      *attributes = {cudaMemoryTypeDevice, located.allocation.device, address, nullptr};
    } else {
      *attributes = {cudaMemoryTypeHost, located.allocation.device, address, address};
    }
    return cudaSuccess;
  });
}

}  // extern "C"
