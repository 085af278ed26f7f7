// Streams: making, waiting, and host functions on them.
#include <algorithm>
#include <utility>

#include "runtime/capture.h"
#include "runtime/queue.h"
#include "runtime/state.h"

using namespace simt::runtime;

namespace {

// Waiting for a stream, or asking whether it is done, is refused while it captures, and in general
// where capture forbids unsafe calls.
cudaError_t refuse_wait(Runtime& state, CUstream_st* stream) {
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  if (stream->legacy) {
    const cudaError_t error = refuse_legacy(state, stream->device);
    if (error != cudaSuccess) return error;
  }
  return refuse_unsafe(state);
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (stream == nullptr || (flags & ~static_cast<unsigned>(cudaStreamNonBlocking)) != 0) {
      return cudaErrorInvalidValue;
    }
    if (fault_due(state, "stream")) return cudaErrorMemoryAllocation;
    auto made = std::make_unique<CUstream_st>();
    made->device = thread_state().device;
    made->flags = flags;
    made->blocking = (flags & cudaStreamNonBlocking) == 0;
    made->priority = std::min(0, std::max(-5, priority));
    state.streams.insert(made.get());
    ++state.counters.live_streams;
    *stream = made.release();
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (state.streams.count(stream) == 0) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) {
      stream->capture->invalid = true;
      return cudaErrorStreamCaptureUnsupported;
    }
    Device& device = *state.devices[static_cast<size_t>(stream->device)];
    // Returns at once; what is queued still runs.
    if (stream->tail != nullptr && !stream->tail->done) device.orphans.push_back(stream->tail);
    state.streams.erase(stream);
    --state.counters.live_streams;
    delete stream;
    return device.failure;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t error = refuse_wait(state, stream);
    if (error != cudaSuccess) return error;
    ++state.counters.synchronisations;
    const size_t device = static_cast<size_t>(stream->device);
    const OperationPointer tail = stream->tail;  // the stream may go while we wait
    run_until(state, lock, tail);
    if (handle == nullptr || handle == cudaStreamLegacy) {
      // Also what blocking streams queued since the default stream's last work.
      for (const OperationPointer& other : open_tails(state, static_cast<int>(device), true)) {
        run_until(state, lock, other);
      }
    }
    return state.devices[device]->failure;
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t error = refuse_wait(state, stream);
    if (error != cudaSuccess) return error;
    const size_t device = static_cast<size_t>(stream->device);
    const OperationPointer tail = stream->tail;
    if (tail != nullptr && !tail->done) {
      if (stream->polls++ < state.polls) return cudaErrorNotReady;
      stream->polls = 0;
      run_until(state, lock, tail);
    }
    return state.devices[device]->failure;
  });
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (flags == nullptr) return cudaErrorInvalidValue;
    *flags = stream->flags;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (priority == nullptr) return cudaErrorInvalidValue;
    *priority = stream->priority;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (device == nullptr) return cudaErrorInvalidValue;
    *device = stream->device;
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (function == nullptr) return cudaErrorInvalidValue;
    Work work;
    work.kind = "host function";
    work.has_host_function = true;
    work.run = [function, data]() -> cudaError_t {
      // On a thread of its own, as CUDA calls it; calls of the runtime from there are refused.
      std::thread([function, data] {
        thread_state().in_host_function = true;
        function(data);
      }).join();
      return cudaSuccess;
    };
    OperationPointer queued;
    const cudaError_t error = submit(state, stream, std::move(work), &queued);
    if (error == cudaSuccess) relieve(state, lock, queued);
    return error;
  });
}

}  // extern "C"
