// What capture records and refuses, and graphs.
#include <cuda_runtime.h>
#include <simt/engine.h>
#include <simt/faults.h>
#include <simt/launch.h>

#include <string>
#include <thread>

#include "runtime_harness.h"

namespace {

TEST_SUITE_BEGIN("runtime_capture");

TEST_CASE("capture") {
  const Fresh fresh;
  cudaStream_t stream = new_stream();
  cudaStream_t side = new_stream();
  cudaEvent_t fork = new_event();
  cudaEvent_t join = new_event();
  int* device = device_memory<int>(1);
  int* pinned = pinned_memory<int>(2);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  const auto begin = [&](cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    ok(cudaStreamBeginCapture(stream, mode), "begin");
  };

  // A copy, two branches, a copy back; replayed, and launches of one graph do not overlap.
  std::string order;
  begin();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  ok(cudaStreamIsCapturing(stream, &status), "is capturing");
  CHECK_MESSAGE(status == cudaStreamCaptureStatusActive, "active");
  ok(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream), "captured copy");
  ok(cudaEventRecord(fork, stream), "fork");
  ok(cudaStreamWaitEvent(side, fork, 0), "side joins");
  ok(queue(side, [&order] { order += 's'; }), "side");
  ok(queue(stream, [&order] { order += 'm'; }), "main");
  ok(cudaEventRecord(join, side), "join");
  ok(cudaStreamWaitEvent(stream, join, 0), "joined");
  ok(queue(stream, [device] { *device += 1; }), "kernel");
  ok(cudaMemcpyAsync(pinned + 1, device, 4, cudaMemcpyDeviceToHost, stream), "copy back");
  is(cudaEventQuery(join), cudaErrorCapturedEvent, "a captured event");
  ok(cudaStreamEndCapture(stream, &graph), "end");
  CHECK_MESSAGE(order.empty(), "capture runs nothing");
  CHECK_MESSAGE(*device == -1, "capture runs nothing");
  size_t nodes = 0;
  ok(cudaGraphGetNodes(graph, nullptr, &nodes), "nodes");
  CHECK_MESSAGE(nodes == 5, "five nodes");
  ok(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  ok(cudaGraphDestroy(graph), "destroy graph");
  bool main_first = false;
  bool side_first = false;
  for (int i = 0; i < 32; ++i) {
    order.clear();
    pinned[0] = 10 * i;
    ok(cudaGraphLaunch(exec, stream), "launch");
    CHECK_MESSAGE(order.empty(), "a replay waits as well");
    ok(cudaStreamSynchronize(stream), "synchronise");
    CHECK_MESSAGE(pinned[1] == 10 * i + 1, "replay ", i);
    main_first = main_first || order == "ms";
    side_first = side_first || order == "sm";
  }
  CHECK_MESSAGE(main_first, "independent nodes run in both orders");
  CHECK_MESSAGE(side_first, "independent nodes run in both orders");
  order.clear();
  ok(cudaGraphLaunch(exec, stream), "launch");
  ok(cudaGraphLaunch(exec, side), "launch elsewhere");
  ok(cudaGraphExecDestroy(exec), "destroyed while queued");
  ok(cudaStreamSynchronize(side), "side");
  CHECK_MESSAGE(order.size() == 4, "the second launch comes after the first");
  is(cudaGraphLaunch(exec, stream), cudaErrorInvalidValue, "a destroyed graph");

  // Refused, and the capture is spoilt.
  const auto spoilt = [&](cudaError_t got, cudaError_t expected, const std::string& what) {
    is(got, expected, what);
    ok(cudaStreamIsCapturing(stream, &status), what);
    CHECK_MESSAGE(status == cudaStreamCaptureStatusInvalidated, what, ": invalidated");
    is(queue(stream, [] {}), cudaErrorStreamCaptureInvalidated, what + ": later work");
    cudaGraph_t none = reinterpret_cast<cudaGraph_t>(1);
    is(cudaStreamEndCapture(stream, &none), cudaErrorStreamCaptureInvalidated, what + ": end");
    CHECK_MESSAGE(none == nullptr, what, ": no graph");
    ok(cudaStreamSynchronize(stream), what + ": the stream works again");
  };
  void* pointer = nullptr;
  int local = 0;
  begin();
  spoilt(cudaMalloc(&pointer, 4), cudaErrorStreamCaptureUnsupported, "cudaMalloc");
  begin();
  spoilt(cudaMallocHost(&pointer, 4), cudaErrorStreamCaptureUnsupported, "cudaMallocHost");
  begin();
  spoilt(cudaFree(device), cudaErrorStreamCaptureUnsupported, "cudaFree");
  begin();
  spoilt(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported, "stream synchronise");
  begin();
  spoilt(cudaStreamQuery(stream), cudaErrorStreamCaptureUnsupported, "stream query");
  begin();
  spoilt(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported, "device synchronise");
  begin();
  spoilt(cudaMemcpy(&local, device, 4, cudaMemcpyDeviceToHost), cudaErrorStreamCaptureUnsupported,
         "cudaMemcpy");
  begin();
  spoilt(cudaMemcpyAsync(&local, device, 4, cudaMemcpyDeviceToHost, stream),
         cudaErrorStreamCaptureUnsupported, "copy to pageable memory");
  begin(cudaStreamCaptureModeRelaxed);
  spoilt(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported, "device, relaxed");

  // Modes: another thread's allocation hurts a global capture only, a relaxed one allows its own.
  begin();
  std::thread([&] { ok(cudaMalloc(&pointer, 4), "another thread, thread-local capture"); }).join();
  ok(cudaStreamEndCapture(stream, &graph), "end");
  ok(cudaGraphDestroy(graph), "destroy");
  begin(cudaStreamCaptureModeGlobal);
  std::thread([&] {
    is(cudaMalloc(&pointer, 4), cudaErrorStreamCaptureUnsupported, "another thread, global");
  }).join();
  is(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated, "global: spoilt");
  begin(cudaStreamCaptureModeRelaxed);
  ok(cudaMalloc(&pointer, 4), "relaxed");
  ok(cudaStreamEndCapture(stream, &graph), "end");
  ok(cudaGraphDestroy(graph), "destroy");
  begin();
  std::thread([&] {
    is(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureWrongThread, "wrong thread");
  }).join();
  is(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated, "wrong thread");

  // The default stream and blocking streams.
  is(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed),
     cudaErrorStreamCaptureUnsupported, "the default stream does not capture");
  cudaStream_t blocking = new_stream(cudaStreamDefault);
  ok(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed), "begin");
  is(cudaMemset(device, 0, 4), cudaErrorStreamCaptureImplicit, "default stream work");
  is(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureInvalidated, "spoilt");
  begin();
  ok(cudaMemset(device, 0, 4), "default stream work beside a non-blocking capture");
  ok(cudaStreamEndCapture(stream, &graph), "end");
  ok(cudaGraphDestroy(graph), "destroy");

  // Forks that do not come home, events from outside, captures that meet.
  begin();
  ok(cudaEventRecord(fork, stream), "fork");
  ok(cudaStreamWaitEvent(side, fork, 0), "side joins");
  ok(queue(side, [] {}), "side");
  is(cudaStreamEndCapture(side, &graph), cudaErrorStreamCaptureUnmatched, "the wrong stream");
  is(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated, "spoilt");
  begin();
  ok(cudaEventRecord(fork, stream), "fork");
  ok(cudaStreamWaitEvent(side, fork, 0), "side joins");
  ok(queue(side, [] {}), "side");
  is(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined, "unjoined");
  ok(queue(side, [] {}), "the side stream works again");
  ok(cudaEventRecord(join, side), "an event outside");
  begin();
  is(cudaStreamWaitEvent(stream, join, 0), cudaErrorStreamCaptureIsolation, "isolation");
  is(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated, "spoilt");
  is(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState, "not capturing");
  static_cast<void>(cudaGetLastError());

  // A graph whose memory is gone does not run quietly.
  begin();
  ok(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream), "captured copy");
  ok(cudaStreamEndCapture(stream, &graph), "end");
  ok(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  ok(cudaFree(device), "free");
  ok(cudaGraphLaunch(exec, stream), "launch");
  is(cudaStreamSynchronize(stream), cudaErrorIllegalAddress, "freed memory in a replay");
  simt::revive_devices();
}

TEST_SUITE_END();

}  // namespace
