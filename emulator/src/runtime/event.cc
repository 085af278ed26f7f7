// Events: marks in a stream's queue that others wait for.
#include <utility>

#include "runtime/capture.h"
#include "runtime/queue.h"
#include "runtime/state.h"

using namespace simt::runtime;

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming;
    if (event == nullptr) return cudaErrorInvalidValue;
    if ((flags & ~kKnown) != 0) return cudaErrorNotSupported;
    if (fault_due(state, "event")) return cudaErrorMemoryAllocation;
    auto made = std::make_unique<CUevent_st>();
    made->device = thread_state().device;
    made->timing = (flags & cudaEventDisableTiming) == 0;
    state.events.insert(made.get());
    ++state.counters.live_events;
    *event = made.release();
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call(Needs::kDevice, [&](Runtime& state, Lock&) -> cudaError_t {
    if (state.events.erase(event) == 0) return cudaErrorInvalidResourceHandle;
    --state.counters.live_events;
    const size_t device = static_cast<size_t>(event->device);
    delete event;
    return state.devices[device]->failure;
  });
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned flags) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr || state.events.count(event) == 0 || stream->device != event->device) {
      return cudaErrorInvalidResourceHandle;
    }
    if (flags != cudaEventRecordDefault) return cudaErrorNotSupported;
    if (stream->capture != nullptr) {
      if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
      event->capture = stream->capture;
      event->capture_nodes = stream->capture_tail;
      event->recorded = nullptr;
      return cudaSuccess;
    }
    OperationPointer queued;
    const cudaError_t error = submit(state, stream, Work(), &queued);
    if (error != cudaSuccess) return error;
    event->capture = nullptr;
    event->capture_nodes.clear();
    event->recorded = queued;
    event->polls = 0;
    relieve(state, lock, queued);
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (state.events.count(event) == 0) return cudaErrorInvalidResourceHandle;
    if (event->capture != nullptr) return cudaErrorCapturedEvent;
    const cudaError_t error = refuse_unsafe(state);
    if (error != cudaSuccess) return error;
    const size_t device = static_cast<size_t>(event->device);
    const OperationPointer recorded_at = event->recorded;
    if (recorded_at != nullptr && !recorded_at->done) {
      if (event->polls++ < state.polls) return cudaErrorNotReady;
      event->polls = 0;
      run_until(state, lock, recorded_at);
    }
    return state.devices[device]->failure;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (state.events.count(event) == 0) return cudaErrorInvalidResourceHandle;
    if (event->capture != nullptr) return cudaErrorCapturedEvent;
    const cudaError_t error = refuse_unsafe(state);
    if (error != cudaSuccess) return error;
    ++state.counters.synchronisations;
    const size_t device = static_cast<size_t>(event->device);
    const OperationPointer recorded_at = event->recorded;
    run_until(state, lock, recorded_at);
    return state.devices[device]->failure;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock&) -> cudaError_t {
    if (milliseconds == nullptr) return cudaErrorInvalidValue;
    for (const cudaEvent_t event : {start, end}) {
      if (state.events.count(event) == 0 || !event->timing) return cudaErrorInvalidResourceHandle;
      if (event->capture != nullptr) return cudaErrorCapturedEvent;
      if (event->recorded == nullptr) return cudaErrorInvalidResourceHandle;
    }
    if (start->device != end->device) return cudaErrorInvalidResourceHandle;
    if (!start->recorded->done || !end->recorded->done) return cudaErrorNotReady;
    const std::chrono::duration<float, std::milli> passed =
        end->recorded->finished - start->recorded->finished;
    *milliseconds = passed.count();
    return cudaSuccess;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
  return call(Needs::kHealthy, [&](Runtime& state, Lock& lock) -> cudaError_t {
    if (handle == cudaStreamPerThread) return cudaErrorNotSupported;
    CUstream_st* stream = find_stream(state, handle);
    if (stream == nullptr || state.events.count(event) == 0) return cudaErrorInvalidResourceHandle;
    if (flags != cudaEventWaitDefault) return cudaErrorNotSupported;
    if (stream->capture != nullptr) return capture_wait(stream, event);
    if (event->capture != nullptr) {
      if (event->capture->ended) return cudaErrorCapturedEvent;
      if (stream->legacy) {
        event->capture->invalid = true;
        return cudaErrorStreamCaptureImplicit;
      }
      if (event->capture->invalid) return cudaErrorStreamCaptureInvalidated;
      // The stream joins the capture.
      stream->capture = event->capture;
      stream->capture_tail = event->capture_nodes;
      event->capture->members.push_back(stream);
      return cudaSuccess;
    }
    if (event->recorded == nullptr || event->recorded->done) return cudaSuccess;
    const OperationPointer recorded_at = event->recorded;
    OperationPointer queued;
    const cudaError_t error = submit(state, stream, Work(), &queued);
    if (error != cudaSuccess) return error;
    queued->after.push_back(recorded_at);
    relieve(state, lock, queued);
    return cudaSuccess;
  });
}

}  // extern "C"
