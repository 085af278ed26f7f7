// Memory of a device and pinned memory of the host: counted, typed when it runs out, and left alone
// once the device is lost.
#pragma once

#include <cstdint>

#include "core/numeric.h"
#include "core/status.h"

namespace sparse_experts::cuda {

class Device;

// The device must be current on the calling thread (Device::enter).
Status allocate_device(Device& device, uint64_t bytes, void** data);
void free_device(Device& device, void* data, uint64_t bytes);

// What a Buffer is made of. Both count what they allocate and leave a lost device alone.
struct DeviceAllocator {
  static Status allocate(Device& device, uint64_t bytes, void** data) {
    return allocate_device(device, bytes, data);
  }
  static void free(Device& device, void* data, uint64_t bytes) { free_device(device, data, bytes); }
};
// Page-locked host memory, which the device copies from and to by itself.
struct PinnedAllocator {
  static Status allocate(Device& device, uint64_t bytes, void** data);
  static void free(Device& device, void* data, uint64_t bytes);
};

// Grows and never shrinks; contents are lost when it grows. Growing needs a stream that is idle.
template <typename Allocator>
class Buffer {
 public:
  explicit Buffer(Device& device) : device_(device) {}
  ~Buffer() { release(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  Status reserve(uint64_t bytes) {
    if (bytes <= bytes_) return Status::ok();
    release();
    const uint64_t rounded = round_up(bytes, kGrowBytes);
    Status status = Allocator::allocate(device_, rounded, &data_);
    if (status.is_ok()) bytes_ = rounded;
    return status;
  }
  void release() {
    Allocator::free(device_, data_, bytes_);
    data_ = nullptr;
    bytes_ = 0;
  }
  char* data() const { return static_cast<char*>(data_); }
  uint64_t bytes() const { return bytes_; }

 private:
  // Sizes come in steps: calls that differ by a few tokens share one.
  static constexpr uint64_t kGrowBytes = 64 << 10;

  Device& device_;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};
using DeviceBuffer = Buffer<DeviceAllocator>;
using PinnedBuffer = Buffer<PinnedAllocator>;

}  // namespace sparse_experts::cuda
