// Copies of any size between host and device, through two pinned halves: one is filled or emptied
// while the other travels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <mutex>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/runtime/memory.h"

namespace sparse_experts::cuda {

class Device;

// Synchronous copies; one at a time.
class Copier {
 public:
  explicit Copier(Device& device);
  ~Copier();
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;
  Status open();

  Status to_device(void* to, const void* from, uint64_t bytes);
  Status to_host(void* to, const void* from, uint64_t bytes);
  // Between the rows of a host tensor and dense rows of the device.
  Status rows_to_device(void* to, const SeTensor& from);
  Status rows_to_host(const SeTensor& to, const void* from);

 private:
  Status copy(void* to, const void* from, uint64_t bytes, cudaMemcpyKind kind);
  Status copy_chunks(char* to, const char* from, uint64_t bytes, cudaMemcpyKind kind);
  Status queue_chunk(int half, char* to, const char* from, uint64_t bytes, cudaMemcpyKind kind);
  Status finish(const Status& status);

  Device& device_;
  std::mutex mutex_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t events_[2] = {nullptr, nullptr};
  PinnedBuffer pinned_;
};

}  // namespace sparse_experts::cuda
