#include "engine/device_memory.h"

namespace sparse_experts::engine {

std::shared_ptr<DeviceMemory> DeviceMemory::allocate(std::shared_ptr<DeviceExecutor> executor,
                                                     uint64_t bytes) {
  std::shared_ptr<DeviceMemory> memory(new DeviceMemory(std::move(executor)));
  if (bytes == 0) return memory;
  throw_if_failed(
      memory->executor_->call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
        void* data = nullptr;
        const int32_t code = backend.memory_allocate(device, bytes, &data, status);
        if (code == SE_OK) memory->data_ = data;
        return code;
      }));
  memory->bytes_ = bytes;
  return memory;
}

void copy_to_device(DeviceExecutor& executor, void* to, const void* from, uint64_t bytes) {
  if (bytes == 0) return;
  throw_if_failed(executor.call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.copy_to_device(device, to, from, bytes, status);
  }));
}

void copy_to_host(DeviceExecutor& executor, void* to, const void* from, uint64_t bytes) {
  if (bytes == 0) return;
  throw_if_failed(executor.call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.copy_to_host(device, to, from, bytes, status);
  }));
}

}  // namespace sparse_experts::engine
