// An opened GPU: its limits, its counters, what the stages and the copies share, and its failure
// state. The primary context is shared with whatever else the process runs on the GPU: it is never
// reset, and its flags are left as they are.
//
// A device that met a terminal error is lost for good. The first cause is kept, enter() returns it
// from then on, and nothing calls CUDA on it again: memory, streams and graphs are then left to the
// end of the process, because freeing them could hang or fault.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/runtime/call_staging.h"
#include "cuda/runtime/copier.h"
#include "cuda/runtime/filler.h"
#include "cuda/runtime/memory.h"
#include "cuda/runtime/plan_limits.h"

namespace sparse_experts::cuda {

struct DeviceCounters {
  std::atomic<uint64_t> device_allocations{0};
  std::atomic<uint64_t> device_bytes{0};
  std::atomic<uint64_t> pinned_bytes{0};
  std::atomic<uint64_t> kernel_launches{0};
  std::atomic<uint64_t> graph_captures{0};
  std::atomic<uint64_t> graph_replays{0};
  std::atomic<uint64_t> copied_to_device_bytes{0};
  std::atomic<uint64_t> copied_to_host_bytes{0};
};

class Device {
 public:
  explicit Device(int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // Creates the context where the process has none yet. `info`: what is known of the device.
  Status open(const SeDeviceInfo& info);
  const SeDeviceInfo& info() const { return info_; }

  int index() const { return index_; }
  const PlanLimits& limits() const { return limits_; }
  uint64_t total_bytes() const { return total_bytes_; }
  bool graphs_enabled() const { return graphs_enabled_; }
  // Whether a kernel may be launched so that it starts before the one before it has ended.
  bool early_launches() const { return early_launches_; }
  // Whether layers may use the matmuls on warp-group instructions, where the device has them.
  bool warp_groups() const { return warp_groups_; }
  DeviceCounters& counters() { return counters_; }

  // Makes the device current on the calling thread; the cause where the device is lost. First in
  // every function that calls CUDA. NOTE: the thread's former device is not restored: setting a
  // device creates its context.
  Status enter();
  bool is_lost() const { return is_lost_.load(std::memory_order_acquire); }
  // Why the device is lost; "" while it is not.
  std::string lost_cause();

  // ok, or the error as a status: SE_OUT_OF_MEMORY with figures, SE_DEVICE_LOST (for good), or
  // SE_INTERNAL. The runtime's own error state is cleared.
  Status check(cudaError_t error, const char* what) {
    return error == cudaSuccess ? Status::ok() : failure(error, what, 0);
  }
  Status failure(cudaError_t error, const char* what, uint64_t needed_bytes);
  Status out_of_memory(uint64_t needed_bytes);

  // Waits for everything queued on the stream: asks for up to poll_for, then sleeps. The event must be
  // one of cudaEventBlockingSync.
  Status synchronize(cudaStream_t stream, cudaEvent_t event, const char* what,
                     std::chrono::nanoseconds poll_for = std::chrono::nanoseconds(0));

  // One stage at a time; held while stage_scratch is in use.
  std::mutex stage_mutex;
  cudaStream_t stage_stream() const { return stage_stream_; }
  cudaEvent_t stage_event() const { return stage_event_; }
  DeviceBuffer& stage_scratch() { return stage_scratch_; }
  PinnedBuffer& stage_pinned() { return stage_pinned_; }

  // Of small calls.
  CallStaging& call_staging() { return call_staging_; }
  // Copies between host and device, for memory copies and for calls that are too large for that. Has a
  // lock of its own.
  Copier& copier() { return copier_; }
  // Copies of experts, which calls do not wait for.
  Filler& filler() { return filler_; }
  // Device memory for the host arrays of one large call at a time.
  std::mutex bulk_mutex;
  DeviceBuffer& bulk() { return bulk_; }

 private:
  const int index_;
  SeDeviceInfo info_{};
  PlanLimits limits_;
  uint64_t total_bytes_ = 0;
  bool graphs_enabled_ = true;
  bool early_launches_ = false;
  bool warp_groups_ = true;
  DeviceCounters counters_;
  std::atomic<bool> is_lost_{false};
  std::mutex lost_mutex_;
  std::string lost_cause_;
  cudaStream_t stage_stream_ = nullptr;
  cudaEvent_t stage_event_ = nullptr;
  DeviceBuffer stage_scratch_;
  PinnedBuffer stage_pinned_;
  CallStaging call_staging_;
  Copier copier_;
  Filler filler_;
  DeviceBuffer bulk_;
};

// What this process has made of GPU `index` so far.
struct OpenState {
  bool is_open = false;
  std::string lost_cause;  // of an open device; "" where none is lost
  SeDeviceInfo info{};     // as it was found when the device was opened
};
OpenState open_state(int index);

// What SPARSE_EXPERTS_CUDA_WAVE_BYTES asks for; SE_DEVICE_UNAVAILABLE where it makes no sense.
Status read_wave_bytes(uint64_t* wave_bytes);

}  // namespace sparse_experts::cuda

// Opaque to callers.
struct SeDevice : sparse_experts::cuda::Device {
  using Device::Device;
};
