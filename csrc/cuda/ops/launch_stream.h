// Where a launcher queues its kernels.
#pragma once

#include <cuda_runtime.h>

namespace sparse_experts::cuda {

// A stream, and how the next kernel is ordered after what is on it. `early`: the kernel may start before
// the one before it has ended. Every kernel waits for its predecessors by itself (await_launches in
// common/launch.cuh), so what is saved is the way from one kernel to the next: launch, first
// instructions, arguments.
//
// Only where the last thing on the stream is one of our kernels, and the device runs code of sm_90 or newer
// (find_early_launches): below that a kernel has no such wait.
struct LaunchStream {
  cudaStream_t handle = nullptr;
  bool early = false;

  // A stream by itself is one whose kernels start in turn. NOLINTNEXTLINE(google-explicit-constructor)
  LaunchStream(cudaStream_t stream, bool may_start_early = false)
      : handle(stream), early(may_start_early) {}
};

// Whether kernels on the current device wait for their predecessors by themselves. Said by the code that
// was loaded and not by the device: PTX of sm_80 that a driver compiled for a newer one has no wait.
cudaError_t find_early_launches(bool* possible);

}  // namespace sparse_experts::cuda
