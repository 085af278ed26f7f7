// Copies from pinned memory of the host that whoever queues them does not wait for: of experts, while
// others are computed.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <mutex>

#include "core/status.h"

namespace sparse_experts::cuda {

class Device;

// On a stream of its own, which there is from the first copy on. Any thread.
class Filler {
 public:
  explicit Filler(Device& device) : device_(device) {}
  ~Filler();
  Filler(const Filler&) = delete;
  Filler& operator=(const Filler&) = delete;

  // Queues a copy. `from` stays as it is until it is done.
  Status begin(void* to, const void* from, uint64_t bytes);
  // What `stream` is given from now on runs behind the copies so far. *has_waited: there was one.
  Status precede(cudaStream_t stream, bool* has_waited);
  // Returns when the copies so far are done.
  Status wait();

 private:
  Status open();

  Device& device_;
  std::mutex mutex_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t filled_ = nullptr;
  bool has_copies_ = false;  // since somebody waited last
};

}  // namespace sparse_experts::cuda
