#include "engine/device_memory.h"

#include "core/host_memory.h"

namespace sparse_experts::engine {

std::shared_ptr<DeviceMemory> DeviceMemory::allocate(std::shared_ptr<DeviceExecutor> executor,
                                                     uint64_t bytes) {
  return make(std::move(executor), bytes, false);
}

std::shared_ptr<DeviceMemory> DeviceMemory::allocate_pinned(
    std::shared_ptr<DeviceExecutor> executor, uint64_t bytes) {
  // The system locks what it gives away, and has no way to refuse it later.
  const uint64_t free_bytes = host_memory_info().free_bytes;
  if (bytes > free_bytes) throw FailureException(Failure::out_of_memory(bytes, free_bytes));
  return make(std::move(executor), bytes, true);
}

std::shared_ptr<DeviceMemory> DeviceMemory::make(std::shared_ptr<DeviceExecutor> executor,
                                                 uint64_t bytes, bool is_pinned) {
  std::shared_ptr<DeviceMemory> memory(new DeviceMemory(std::move(executor), is_pinned));
  if (bytes == 0) return memory;
  throw_if_failed(
      memory->executor_->call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
        void* data = nullptr;
        const auto allocate = is_pinned ? backend.pinned_allocate : backend.memory_allocate;
        const int32_t code = allocate(device, bytes, &data, status);
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
