// Stream capture: work goes into a graph, streams join by waiting for a captured event, and calls
// that CUDA forbids meanwhile are refused and spoil the capture. All with the runtime's mutex held.
//
// Where CUDA's text leaves room the strict reading is taken: waiting for anything counts as unsafe,
// and so do copies that return only when they are done.
#pragma once

#include "runtime/state.h"

namespace simt::runtime {

// Adds a node behind the stream's last one.
cudaError_t capture_work(CUstream_st* stream, Work&& work);

// For allocation and waiting: cudaErrorStreamCaptureUnsupported while a capture forbids them to
// this thread (by the capture's mode and the thread's own), and the capture is spoilt.
cudaError_t refuse_unsafe(Runtime& state);

// For work on the default stream: cudaErrorStreamCaptureImplicit while a blocking stream of the
// device captures.
cudaError_t refuse_legacy(Runtime& state, int device);

// For waiting for a whole device: refused while any of its streams captures, whatever the mode.
cudaError_t refuse_device(Runtime& state, int device);

// A captured stream waits for an event: the event's nodes come before the stream's next one.
cudaError_t capture_wait(CUstream_st* stream, CUevent_st* event);

// Takes the streams out of the capture.
void end_capture(Runtime& state, const std::shared_ptr<Capture>& capture);

}  // namespace simt::runtime
