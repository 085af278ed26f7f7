// Memory of a device and pinned memory of the host: counted, typed when it runs out, and left alone
// once the device is lost.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace sparse_experts::cuda {

class Device;

// The device must be current on the calling thread (Device::enter).
Status allocate_device(Device& device, uint64_t bytes, void** data);
void free_device(Device& device, void* data, uint64_t bytes);

// Grows and never shrinks; contents are lost when it grows. Growing needs a stream that is idle.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(Device& device) : device_(device) {}
  ~DeviceBuffer() { release(); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  Status reserve(uint64_t bytes);
  void release();
  char* data() const { return static_cast<char*>(data_); }
  uint64_t bytes() const { return bytes_; }

 private:
  Device& device_;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// The same of page-locked host memory, which the device copies from and to by itself.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(Device& device) : device_(device) {}
  ~PinnedBuffer() { release(); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  Status reserve(uint64_t bytes);
  void release();
  char* data() const { return static_cast<char*>(data_); }
  uint64_t bytes() const { return bytes_; }

 private:
  Device& device_;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace sparse_experts::cuda
