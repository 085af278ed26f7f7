// Streams, events and host functions: the hostile order of execution, from any thread.
#include <cuda_runtime.h>
#include <simt/engine.h>
#include <simt/faults.h>
#include <simt/launch.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "runtime_harness.h"

namespace {

TEST_SUITE_BEGIN("runtime_streams");

TEST_CASE("streams") {
  const Fresh fresh;
  std::string order;
  const auto note = [&order](char what) { return [&order, what] { order += what; }; };
  cudaStream_t a = new_stream();
  cudaStream_t b = new_stream();
  ok(queue(a, note('a')), "a");
  ok(queue(b, note('b')), "b");
  CHECK_MESSAGE(order.empty(), "work waits for somebody who waits");
  ok(cudaStreamSynchronize(b), "b");
  CHECK_MESSAGE(order == "b", "another stream is not run along");
  ok(cudaStreamSynchronize(a), "a");
  CHECK_MESSAGE(order == "ba", "a");

  // The default stream comes after blocking streams, and they after it; others do not care.
  cudaStream_t blocking = new_stream(cudaStreamDefault);
  order.clear();
  ok(queue(blocking, note('1')), "1");
  ok(queue(a, note('x')), "x");
  ok(queue(nullptr, note('2')), "2");
  ok(queue(blocking, note('3')), "3");
  ok(cudaStreamSynchronize(blocking), "blocking");
  CHECK_MESSAGE(order == "123", "order with the default stream: ", std::string(order));
  ok(cudaDeviceSynchronize(), "device");
  CHECK_MESSAGE(order == "123x", "the rest: ", std::string(order));

  // Events.
  cudaEvent_t event = new_event();
  order.clear();
  ok(cudaEventQuery(event), "never recorded: done");
  ok(queue(a, note('a')), "a");
  ok(cudaEventRecord(event, a), "record");
  ok(queue(a, note('c')), "c");
  ok(cudaStreamWaitEvent(b, event, 0), "wait");
  ok(queue(b, note('b')), "b");
  ok(cudaStreamSynchronize(b), "b");
  CHECK_MESSAGE(order == "ab", "b waits for what came before the event only: ", std::string(order));
  ok(cudaEventSynchronize(event), "event");
  CHECK_MESSAGE(order == "ab", "done already");
  ok(cudaDeviceSynchronize(), "device");

  // Polls.
  order.clear();
  ok(queue(a, note('a')), "a");
  is(cudaStreamQuery(a), cudaErrorNotReady, "first poll");
  is(cudaStreamQuery(a), cudaErrorNotReady, "second poll");
  is(cudaStreamQuery(a), cudaErrorNotReady, "third poll");
  CHECK_MESSAGE(order.empty(), "polls do not run it");
  ok(cudaStreamQuery(a), "fourth poll");
  CHECK_MESSAGE(order == "a", "then it ran");
  ok(cudaEventRecord(event, a), "record");
  int polls = 0;
  while (cudaEventQuery(event) == cudaErrorNotReady && polls < 100) ++polls;
  CHECK_MESSAGE(polls == 3, "an event becomes ready");
  static_cast<void>(cudaGetLastError());

  // Time.
  cudaEvent_t start = new_event(cudaEventDefault);
  cudaEvent_t end = new_event(cudaEventDefault);
  float milliseconds = -1;
  is(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle,
     "never recorded");
  ok(cudaEventRecord(start, a), "start");
  ok(queue(a, [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }), "sleep");
  ok(cudaEventRecord(end, a), "end");
  is(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorNotReady, "not ready");
  ok(cudaEventSynchronize(end), "end");
  ok(cudaEventElapsedTime(&milliseconds, start, end), "elapsed");
  CHECK_MESSAGE(milliseconds >= 2, "at least 2 ms");
  is(cudaEventElapsedTime(&milliseconds, event, end), cudaErrorInvalidResourceHandle,
     "an event without timing");

  // Destroyed with work queued: the work still runs.
  order.clear();
  ok(queue(b, note('b')), "b");
  ok(cudaStreamDestroy(b), "destroy");
  CHECK_MESSAGE(order.empty(), "destroying does not wait");
  ok(cudaDeviceSynchronize(), "device");
  CHECK_MESSAGE(order == "b", "its work is not lost");
  is(queue(b, note('b')), cudaErrorInvalidResourceHandle, "a destroyed stream");
  is(cudaStreamSynchronize(b), cudaErrorInvalidResourceHandle, "a destroyed stream");
  is(cudaStreamDestroy(b), cudaErrorInvalidResourceHandle, "destroyed twice");
  ok(cudaEventDestroy(event), "event");
  is(cudaEventRecord(event, a), cudaErrorInvalidResourceHandle, "a destroyed event");

  // A queue that nobody waits for does not grow without end, and long ones need no deep recursion.
  int64_t ran = 0;
  bool all_queued = true;
  for (int i = 0; i < 5000; ++i) {
    all_queued = queue(a, [&ran] { ++ran; }) == cudaSuccess && all_queued;
  }
  CHECK_MESSAGE(all_queued, "a long queue");
  CHECK_MESSAGE(ran >= 5000 - 1024, "a full queue runs");
  ok(cudaStreamSynchronize(a), "a");
  CHECK_MESSAGE(ran == 5000, "all of it ran");

  // cudaFree waits.
  order.clear();
  int* memory = device_memory<int>(1);
  ok(queue(a, note('a')), "a");
  ok(cudaFree(memory), "free");
  CHECK_MESSAGE(order == "a", "cudaFree waits for the device");
}

TEST_CASE("host functions") {
  const Fresh fresh;
  cudaStream_t stream = new_stream();
  struct Seen {
    std::atomic<int> calls{0};
    cudaError_t inside = cudaSuccess;
    std::thread::id thread;
  } seen;
  ok(cudaLaunchHostFunc(
         stream,
         [](void* data) {
           Seen* to = static_cast<Seen*>(data);
           to->thread = std::this_thread::get_id();
           to->inside = cudaDeviceSynchronize();
           ++to->calls;
         },
         &seen),
     "cudaLaunchHostFunc");
  // Nobody waits, and it is called all the same.
  for (int i = 0; i < 2000 && seen.calls == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ok(cudaStreamSynchronize(stream), "synchronise");
  CHECK_MESSAGE(seen.calls == 1, "called once");
  CHECK_MESSAGE(seen.inside == cudaErrorNotPermitted, "CUDA calls inside are refused");
  CHECK_MESSAGE((seen.thread != std::this_thread::get_id()), "on another thread");
}

TEST_CASE("threads") {
  const Fresh fresh{{"SIMT_DEVICES", "2"}};
  std::atomic<int64_t> ran{0};
  std::atomic<int> errors{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      const auto good = [&](cudaError_t error) {
        if (error != cudaSuccess) ++errors;
      };
      good(cudaSetDevice(t % 2));
      cudaStream_t stream = nullptr;
      good(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
      cudaEvent_t event = nullptr;
      good(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
      for (int i = 0; i < 50; ++i) {
        void* memory = nullptr;
        void* pinned = nullptr;
        good(cudaMalloc(&memory, 64));
        good(cudaMallocHost(&pinned, 64));
        std::memset(pinned, t, 64);
        good(cudaMemcpyAsync(memory, pinned, 64, cudaMemcpyHostToDevice, stream));
        good(queue(stream, [&ran] { ++ran; }));
        good(cudaEventRecord(event, stream));
        if (i % 3 == 0) good(cudaEventSynchronize(event));
        if (i % 5 == 0) good(cudaDeviceSynchronize());
        good(cudaStreamSynchronize(stream));
        if (static_cast<unsigned char*>(memory)[63] != t) ++errors;
        good(cudaFree(memory));
        good(cudaFreeHost(pinned));
      }
      good(cudaEventDestroy(event));
      good(cudaStreamDestroy(stream));
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_MESSAGE(errors == 0, "no errors from six threads");
  CHECK_MESSAGE(ran == 300, "every kernel ran once");
  CHECK_MESSAGE(simt_allocation_count() == 0, "all freed");
  char text[4096];
  const uint64_t length = simt_counters_json(text, sizeof text);
  CHECK_MESSAGE(length > 0, "counters as JSON");
  CHECK_MESSAGE(length < sizeof text, "counters as JSON");
  CHECK_MESSAGE(text[0] == '{', "counters as JSON");
  CHECK_MESSAGE(text[length - 1] == '}', "counters as JSON");
  CHECK_MESSAGE(std::strstr(text, "\"kernelsRun\":300") != nullptr, "counters count");
  char small[8];
  CHECK_MESSAGE(simt_counters_json(small, sizeof small) == length, "cut off");
  CHECK_MESSAGE(small[7] == '\0', "cut off");
}

TEST_SUITE_END();

}  // namespace
