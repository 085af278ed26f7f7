// Memory of a device's small calls, through which their host arrays travel as one block. All layers of
// the device share it, because one call of a device runs at a time: what is pinned does not grow with
// the layers. Recorded forwards name its addresses: whoever keeps some drops them when they move.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>
#include <mutex>

#include "core/status.h"
#include "cuda/runtime/memory.h"

namespace sparse_experts::cuda {

class Device;

class CallStaging {
 public:
  explicit CallStaging(Device& device)
      : device_(device), pinned_(device), lent_block_(device), block_(device) {}

  // Held by the call that uses it, but by a run: nothing else computes meanwhile.
  std::mutex mutex;

  // Room for a call; `needs_pinned`: unless its arrays lie in the lent block. What is new is queued on
  // the stream.
  Status reserve(uint64_t bytes, bool needs_pinned, cudaStream_t stream);
  // Which memory this is: another number whenever one of the blocks has moved.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  char* pinned() const { return pinned_.data(); }
  char* block() const { return block_.data(); }

  // Lends pinned memory to one caller at a time, who writes its arrays there. False: another has it, or
  // it is too small and cannot grow now, because a call runs. Any thread.
  Status lend(uint64_t bytes, bool* is_lent);
  void take_back() { is_lent_.store(false, std::memory_order_release); }
  // Whether so many bytes are lent.
  bool has_lent(uint64_t bytes) const { return is_lent_ && bytes <= lent_block_.bytes(); }
  char* lent() const { return lent_block_.data(); }

 private:
  Status reserve_lent(uint64_t bytes, bool* is_ready);

  Device& device_;
  PinnedBuffer pinned_;      // of calls that bring memory of their own
  PinnedBuffer lent_block_;  // of the one caller that has is_lent_
  DeviceBuffer block_;
  std::atomic<bool> is_lent_{false};
  std::atomic<uint64_t> generation_{1};
};

}  // namespace sparse_experts::cuda
