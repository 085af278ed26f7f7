#include "runtime/capture.h"

#include <algorithm>
#include <utility>

namespace simt::runtime {

cudaError_t capture_work(CUstream_st* stream, Work&& work) {
  Capture& capture = *stream->capture;
  if (capture.invalid) return cudaErrorStreamCaptureInvalidated;
  GraphData& graph = *capture.graph;
  graph.nodes.push_back({std::move(work), stream->capture_tail});
  stream->capture_tail = {graph.nodes.size() - 1};
  return cudaSuccess;
}

cudaError_t refuse_unsafe(Runtime& state) {
  if (state.captures.empty()) return cudaSuccess;
  const cudaStreamCaptureMode thread_mode = thread_state().capture_mode;
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  const std::thread::id self = std::this_thread::get_id();
  cudaError_t error = cudaSuccess;
  for (const auto& capture : state.captures) {
    const bool forbidden = capture->thread == self ? capture->mode != cudaStreamCaptureModeRelaxed
                                                   : capture->mode == cudaStreamCaptureModeGlobal &&
                                                         thread_mode == cudaStreamCaptureModeGlobal;
    if (!forbidden) continue;
    capture->invalid = true;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

cudaError_t refuse_legacy(Runtime& state, int device) {
  cudaError_t error = cudaSuccess;
  for (const auto& capture : state.captures) {
    for (CUstream_st* stream : capture->members) {
      if (stream->device != device || !stream->blocking) continue;
      capture->invalid = true;
      error = cudaErrorStreamCaptureImplicit;
    }
  }
  return error;
}

cudaError_t refuse_device(Runtime& state, int device) {
  cudaError_t error = cudaSuccess;
  for (const auto& capture : state.captures) {
    for (CUstream_st* stream : capture->members) {
      if (stream->device != device) continue;
      capture->invalid = true;
      error = cudaErrorStreamCaptureUnsupported;
    }
  }
  return error;
}

cudaError_t capture_wait(CUstream_st* stream, CUevent_st* event) {
  if (event->capture == nullptr || event->capture->ended) {
    // Work outside of the graph cannot come before work inside.
    stream->capture->invalid = true;
    return cudaErrorStreamCaptureIsolation;
  }
  if (event->capture != stream->capture) {
    stream->capture->invalid = true;
    event->capture->invalid = true;
    return cudaErrorStreamCaptureMerge;
  }
  if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
  for (const size_t node : event->capture_nodes) {
    std::vector<size_t>& tail = stream->capture_tail;
    if (std::find(tail.begin(), tail.end(), node) == tail.end()) tail.push_back(node);
  }
  return cudaSuccess;
}

void end_capture(Runtime& state, const std::shared_ptr<Capture>& capture) {
  capture->ended = true;
  for (CUstream_st* stream : capture->members) {
    stream->capture = nullptr;
    stream->capture_tail.clear();
  }
  capture->members.clear();
  capture->origin = nullptr;
  state.captures.erase(std::remove(state.captures.begin(), state.captures.end(), capture),
                       state.captures.end());
}

}  // namespace simt::runtime
