// What every launch of a forward goes through, and where its intermediates lie.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "abi/backend.h"
#include "core/dtype.h"
#include "core/status.h"
#include "cuda/layer/forward.h"
#include "cuda/ops/launch_stream.h"
#include "cuda/runtime/device.h"

namespace sparse_experts::cuda {

// Null where the plan has no such intermediate.
template <typename T>
T* at(const ForwardQueue& queue, uint64_t offset) {
  return offset == ForwardPlan::kNone ? nullptr : reinterpret_cast<T*>(queue.workspace + offset);
}

// Where the next kernel of the forward goes.
inline LaunchStream next_in(const ForwardQueue& queue) {
  return {queue.stream, queue.follows_kernel && queue.device.early_launches()};
}

// What became of a launch.
inline Status launched(const ForwardQueue& queue, cudaError_t error, const char* what) {
  queue.follows_kernel = true;
  if (!queue.is_recorded) queue.device.counters().kernel_launches += 1;
  return queue.device.check(error, what);
}

// Row `row` of a matrix of any dtype.
inline const void* row_of(const void* data, int32_t dtype, int64_t stride, int64_t row) {
  return static_cast<const char*>(data) + row * stride * dtype_bytes(dtype);
}

}  // namespace sparse_experts::cuda
