// Scratch memory of one op, freed at the end of its scope.
#pragma once

#include <cstdint>

#include "core/host_memory.h"
#include "core/status.h"

namespace sparse_experts::cpu {

class HostBuffer {
 public:
  HostBuffer() = default;
  ~HostBuffer() { host_free(data_, bytes_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  Status allocate(uint64_t bytes) {
    bytes_ = bytes;
    return host_allocate(bytes, &data_);
  }

  template <typename T>
  T* as() {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace sparse_experts::cpu
