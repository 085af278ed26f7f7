// Copies and fills. Ranges are checked against the allocations when the call is made and again when
// the copy runs: by then a graph's memory may be gone.
//   - from pageable memory: taken at the call (large ones wait), to pageable memory: waits
//   - from and to pinned memory: touched only when the stream runs
#include <cstring>
#include <utility>

#include "runtime/capture.h"
#include "runtime/memory_table.h"
#include "runtime/queue.h"
#include "runtime/state.h"

using namespace simt::runtime;

namespace {

constexpr size_t kMaxBytesToStage = 1 << 20;

// Rows of `width` bytes; a plain copy is one row.
struct Rows {
  size_t pitch = 0;
  size_t width = 0;
  size_t height = 1;
  size_t extent() const { return height == 0 || width == 0 ? 0 : (height - 1) * pitch + width; }
};

struct CopyPlan {
  unsigned char* to = nullptr;
  Rows to_rows;
  Side to_side = Side::kAny;
  const unsigned char* from = nullptr;
  Rows from_rows;
  Side from_side = Side::kAny;
  std::shared_ptr<std::vector<unsigned char>> staged;  // the source, if taken at the call
};

bool valid(const Runtime& state, const CopyPlan& plan) {
  return side_allows(state, plan.to_side, plan.to, plan.to_rows.extent()) &&
         (plan.staged != nullptr ||
          side_allows(state, plan.from_side, plan.from, plan.from_rows.extent()));
}

void copy_rows(unsigned char* to, size_t to_pitch, const unsigned char* from, size_t from_pitch,
               const Rows& rows) {
  for (size_t i = 0; i < rows.height; ++i) {
    std::memmove(to + i * to_pitch, from + i * from_pitch, rows.width);
  }
}

cudaError_t run_copy(int device, const CopyPlan& plan) {
  Runtime& state = runtime();
  {
    const Lock lock(state.mutex);
    if (!valid(state, plan)) {
      report(state, "a queued copy reads or writes memory that was freed before it ran (device " +
                        std::to_string(device) + ")");
      return cudaErrorIllegalAddress;
    }
    state.counters.copied_bytes += plan.to_rows.width * plan.to_rows.height;
  }
  if (plan.staged != nullptr) {
    copy_rows(plan.to, plan.to_rows.pitch, plan.staged->data(), plan.to_rows.width, plan.to_rows);
  } else {
    copy_rows(plan.to, plan.to_rows.pitch, plan.from, plan.from_rows.pitch, plan.to_rows);
  }
  return cudaSuccess;
}

bool pageable(const Runtime& state, const void* pointer) {
  return locate(state, pointer, 1).place == Place::kOutside;
}

bool on_device(const Runtime& state, const void* pointer) {
  return side_allows(state, Side::kDevice, pointer, 1);
}

enum class Waits { kNever, kAlways };

cudaError_t copy(CopyPlan plan, cudaMemcpyKind kind, cudaStream_t handle, Waits waits) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    switch (kind) {
      case cudaMemcpyHostToHost:
        plan.to_side = plan.from_side = Side::kHost;
        break;
      case cudaMemcpyHostToDevice:
        plan.to_side = Side::kDevice;
        plan.from_side = Side::kHost;
        break;
      case cudaMemcpyDeviceToHost:
        plan.to_side = Side::kHost;
        plan.from_side = Side::kDevice;
        break;
      case cudaMemcpyDeviceToDevice:
        plan.to_side = plan.from_side = Side::kDevice;
        break;
      case cudaMemcpyDefault:
        break;
      default:
        return cudaErrorInvalidMemcpyDirection;
    }
    ++state.counters.copies;
    if (plan.to_rows.extent() == 0) return cudaSuccess;
    if (plan.to == nullptr || plan.from == nullptr || !valid(state, plan)) {
      return cudaErrorInvalidValue;
    }
    const bool from_pageable = pageable(state, plan.from);
    const bool to_pageable = pageable(state, plan.to);
    const bool within_device = on_device(state, plan.to) && on_device(state, plan.from);
    bool wait = waits == Waits::kAlways && !within_device;
    if (stream->capture != nullptr && (from_pageable || to_pageable)) {
      // CUDA may take it; what the graph would read or write later is nobody's any more.
      stream->capture->invalid = true;
      return cudaErrorStreamCaptureUnsupported;
    }
    if (wait || waits == Waits::kAlways) {
      if (stream->legacy) {
        const cudaError_t error = refuse_legacy(state, stream->device);
        if (error != cudaSuccess) return error;
      }
      const cudaError_t error = refuse_unsafe(state);
      if (error != cudaSuccess) return error;
    }
    if (fault_due(state, "copy")) {
      if (stream->capture != nullptr) stream->capture->invalid = true;
      return cudaErrorOperatingSystem;
    }
    if (!wait && to_pageable) wait = true;
    if (!wait && from_pageable) {
      const Rows& rows = plan.to_rows;
      if (rows.width * rows.height <= kMaxBytesToStage) {
        auto staged = std::make_shared<std::vector<unsigned char>>(rows.width * rows.height);
        copy_rows(staged->data(), rows.width, plan.from, plan.from_rows.pitch, rows);
        plan.staged = std::move(staged);
      } else {
        wait = true;
      }
    }
    const size_t device = static_cast<size_t>(stream->device);
    Work work;
    work.kind = "copy";
    work.run = [device, plan] { return run_copy(static_cast<int>(device), plan); };
    OperationPointer queued;
    const cudaError_t error = submit(state, stream, std::move(work), &queued);
    if (error != cudaSuccess || queued == nullptr) return error;
    if (!wait) {
      relieve(state, lock, queued);
      return cudaSuccess;
    }
    ++state.counters.synchronisations;
    run_until(state, lock, queued);
    return state.devices[device]->failure;
  });
}

CopyPlan plain(void* to, const void* from, size_t bytes) {
  CopyPlan plan;
  plan.to = static_cast<unsigned char*>(to);
  plan.from = static_cast<const unsigned char*>(from);
  plan.to_rows = plan.from_rows = {bytes, bytes, 1};
  return plan;
}

cudaError_t copy_2d(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                    size_t height, cudaMemcpyKind kind, cudaStream_t stream, Waits waits) {
  if (width > to_pitch || width > from_pitch) {
    return call(Needs::kHealthy, [](Runtime&, Lock&) { return cudaErrorInvalidPitchValue; });
  }
  CopyPlan plan = plain(to, from, 0);
  plan.to_rows = {to_pitch, width, height};
  plan.from_rows = {from_pitch, width, height};
  return copy(plan, kind, stream, waits);
}

cudaError_t fill(void* to, int value, size_t bytes, cudaStream_t handle) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    ++state.counters.copies;
    if (bytes == 0) return cudaSuccess;
    const auto reachable = [to, bytes](const Runtime& now) {
      return locate(now, to, bytes).place == Place::kInside;
    };
    if (!reachable(state)) return cudaErrorInvalidValue;
    if (fault_due(state, "copy")) {
      if (stream->capture != nullptr) stream->capture->invalid = true;
      return cudaErrorOperatingSystem;
    }
    Work work;
    work.kind = "fill";
    work.run = [to, value, bytes, reachable]() -> cudaError_t {
      Runtime& now = runtime();
      {
        const Lock held(now.mutex);
        if (!reachable(now)) {
          report(now, "a queued fill writes memory that was freed before it ran");
          return cudaErrorIllegalAddress;
        }
      }
      std::memset(to, value, bytes);
      return cudaSuccess;
    };
    OperationPointer queued;
    const cudaError_t error = submit(state, stream, std::move(work), &queued);
    if (error == cudaSuccess) relieve(state, lock, queued);
    return error;
  });
}

}  // namespace

extern "C" {

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return copy(plain(to, from, bytes), kind, nullptr, Waits::kAlways);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy(plain(to, from, bytes), kind, stream, Waits::kNever);
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
  return copy_2d(to, to_pitch, from, from_pitch, width, height, kind, nullptr, Waits::kAlways);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return copy_2d(to, to_pitch, from, from_pitch, width, height, kind, stream, Waits::kNever);
}

// On the default stream, but not waited for: as CUDA fills device memory.
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return fill(to, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return fill(to, value, bytes, stream);
}

}  // extern "C"
