// Pinned memory of the host with a copy on the device, which follows it in the order of a stream.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/status.h"
#include "cuda/runtime/memory.h"

namespace sparse_experts::cuda {

class Device;

class MirroredBlock {
 public:
  explicit MirroredBlock(Device& device) : device_(device), host_(device), copy_(device) {}
  ~MirroredBlock();
  MirroredBlock(const MirroredBlock&) = delete;
  MirroredBlock& operator=(const MirroredBlock&) = delete;

  // Contents are arbitrary. Once, and again where it failed.
  Status open(uint64_t bytes);
  bool is_open() const { return host_.data() != nullptr; }
  const char* host() const { return host_.data(); }
  char* device() const { return copy_.data(); }

  // The host's memory to write into: waits until copies that were queued have read it.
  Status edit(char** host);
  // Queues a copy of [first, first + bytes). Whatever the stream runs before it may read what was there.
  Status upload(uint64_t first, uint64_t bytes, cudaStream_t stream);

 private:
  Device& device_;
  PinnedBuffer host_;
  DeviceBuffer copy_;
  cudaEvent_t copied_ = nullptr;
  bool is_copying_ = false;
};

}  // namespace sparse_experts::cuda
