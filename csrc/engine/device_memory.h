// A block of a device's memory with shared ownership: a call holds the blocks that it uses, so the
// caller may give up his own at any time.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/executor.h"

namespace sparse_experts::engine {

class DeviceMemory {
 public:
  // Contents are arbitrary. Throws FailureException.
  static std::shared_ptr<DeviceMemory> allocate(std::shared_ptr<DeviceExecutor> executor,
                                                uint64_t bytes);
  // Memory of the host that the device copies from by itself, of a device with memory of its own.
  static std::shared_ptr<DeviceMemory> allocate_pinned(std::shared_ptr<DeviceExecutor> executor,
                                                       uint64_t bytes);
  ~DeviceMemory() { executor_->discard(nullptr, data_, bytes_, is_pinned_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  DeviceExecutor& executor() const { return *executor_; }
  uint8_t* data() const { return static_cast<uint8_t*>(data_); }  // null when empty
  uint64_t bytes() const { return bytes_; }

 private:
  DeviceMemory(std::shared_ptr<DeviceExecutor> executor, bool is_pinned)
      : executor_(std::move(executor)), is_pinned_(is_pinned) {}
  static std::shared_ptr<DeviceMemory> make(std::shared_ptr<DeviceExecutor> executor,
                                            uint64_t bytes, bool is_pinned);

  const std::shared_ptr<DeviceExecutor> executor_;
  const bool is_pinned_;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// Copies between the host and the executor's device; they return when it is done. Throw
// FailureException.
void copy_to_device(DeviceExecutor& executor, void* to, const void* from, uint64_t bytes);
void copy_to_host(DeviceExecutor& executor, void* to, const void* from, uint64_t bytes);

}  // namespace sparse_experts::engine
