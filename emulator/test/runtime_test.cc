// Self-test of the emulated runtime: its hostile order of execution, what capture refuses, which
// copies are caught, how devices fail, and that all of it may be used from any thread.
#include <cuda_runtime.h>
#include <simt/engine.h>
#include <simt/faults.h>
#include <simt/launch.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

namespace {

bool is(cudaError_t error, cudaError_t expected, const std::string& what) {
  return check(error == expected,
               what + ": " + cudaGetErrorName(error) + ", expected " + cudaGetErrorName(expected));
}

bool ok(cudaError_t error, const std::string& what) { return is(error, cudaSuccess, what); }

__global__ void add_kernel(int* values, int count, int amount) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) values[i] += amount;
}

__global__ void half_barrier_kernel() {
  if (threadIdx.x < 32) __syncthreads();
}

// A kernel as the runtime sees one, without the engine's threads.
cudaError_t queue(cudaStream_t stream, std::function<void()> body) {
  simt::KernelLaunch launch;
  launch.name = "body";
  launch.body = std::move(body);
  return simt::enqueue_launch(std::move(launch), stream);
}

// A runtime as a fresh process has it, with these variables.
struct Variable {
  const char* name;
  const char* value;
};

class Fresh {
 public:
  Fresh() : Fresh(std::initializer_list<Variable>()) {}
  Fresh(std::initializer_list<Variable> variables) {
    for (const char* name : kNames) ::unsetenv(name);
    for (const Variable& variable : variables) ::setenv(variable.name, variable.value, 1);
    simt::reset_runtime();
  }
  ~Fresh() {
    for (const char* name : kNames) ::unsetenv(name);
    simt::reset_runtime();
  }
  Fresh(const Fresh&) = delete;
  Fresh& operator=(const Fresh&) = delete;

 private:
  static constexpr const char* kNames[] = {"SIMT_DEVICES",
                                           "SIMT_DRIVER",
                                           "SIMT_COMPUTE_CAPABILITY",
                                           "SIMT_MULTIPROCESSORS",
                                           "SIMT_MEMORY_BYTES",
                                           "SIMT_FAIL",
                                           "SIMT_POLLS"};
};

template <typename T>
T* device_memory(size_t count) {
  T* pointer = nullptr;
  ok(cudaMalloc(&pointer, count * sizeof(T)), "cudaMalloc");
  return pointer;
}

template <typename T>
T* pinned_memory(size_t count) {
  T* pointer = nullptr;
  ok(cudaMallocHost(&pointer, count * sizeof(T)), "cudaMallocHost");
  return pointer;
}

cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t stream = nullptr;
  ok(cudaStreamCreateWithFlags(&stream, flags), "cudaStreamCreateWithFlags");
  return stream;
}

cudaEvent_t new_event(unsigned flags = cudaEventDisableTiming) {
  cudaEvent_t event = nullptr;
  ok(cudaEventCreateWithFlags(&event, flags), "cudaEventCreateWithFlags");
  return event;
}

void test_machine() {
  {
    const Fresh fresh;
    int count = -1;
    ok(cudaGetDeviceCount(&count), "one device by default");
    check(count == 1, "one device");
    int version = 0;
    ok(cudaDriverGetVersion(&version), "driver version");
    check(version == 13000, "driver 13.0");
    int value = 0;
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), "attribute");
    check(value == 163 * 1024, "sm_80: 163 KiB per block");
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), "attribute");
    check(value == 4, "4 multiprocessors");
    is(cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(127), 0), cudaErrorInvalidValue,
       "unknown attribute");
    is(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 1), cudaErrorInvalidDevice, "device 1");
    is(cudaSetDevice(1), cudaErrorInvalidDevice, "cudaSetDevice(1)");
    is(cudaPeekAtLastError(), cudaErrorInvalidDevice, "peek keeps");
    is(cudaGetLastError(), cudaErrorInvalidDevice, "get takes");
    is(cudaGetLastError(), cudaSuccess, "taken");
    cudaDeviceProp properties;
    ok(cudaGetDeviceProperties(&properties, 0), "properties");
    check(properties.major == 8 && properties.minor == 0 && properties.warpSize == 32 &&
              properties.totalGlobalMem == 4ull << 30,
          "properties of sm_80");
    check(std::string(cudaGetErrorName(cudaErrorIllegalAddress)) == "cudaErrorIllegalAddress",
          "error name");
    check(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory",
          "error text");
    check(std::string(cudaGetErrorName(static_cast<cudaError_t>(998))) == "unrecognized error code",
          "unknown error");
  }
  {
    const Fresh fresh{{"SIMT_DRIVER", "none"}};
    int count = -1;
    is(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver, "no driver: count");
    int version = -1;
    ok(cudaDriverGetVersion(&version), "no driver: version");
    check(count == 0 && version == 0, "no driver: zero");
    void* pointer = nullptr;
    is(cudaMalloc(&pointer, 16), cudaErrorInsufficientDriver, "no driver: cudaMalloc");
    is(cudaDeviceSynchronize(), cudaErrorInsufficientDriver, "no driver: synchronise");
  }
  {
    const Fresh fresh{{"SIMT_DRIVER", "12040"}};
    int count = -1;
    is(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver, "driver of CUDA 12");
  }
  {
    const Fresh fresh{{"SIMT_DEVICES", "0"}};
    int count = -1;
    is(cudaGetDeviceCount(&count), cudaErrorNoDevice, "no device: count");
    is(cudaSetDevice(0), cudaErrorNoDevice, "no device: cudaSetDevice");
    is(queue(nullptr, [] {}), cudaErrorNoDevice, "no device: launch");
  }
  {
    const Fresh fresh{{"SIMT_DEVICES", "3"}, {"SIMT_COMPUTE_CAPABILITY", "80,86,90"}};
    const int expected[] = {163, 99, 227};
    for (int device = 0; device < 3; ++device) {
      int bytes = 0;
      ok(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "opt-in");
      check(bytes == expected[device] * 1024, "shared memory of device " + std::to_string(device));
    }
    ok(cudaSetDevice(2), "cudaSetDevice(2)");
    int other = -1;
    std::thread([&] { cudaGetDevice(&other); }).join();
    int mine = -1;
    ok(cudaGetDevice(&mine), "cudaGetDevice");
    check(mine == 2 && other == 0, "the current device belongs to the thread");
  }
  {
    const Fresh fresh{{"SIMT_COMPUTE_CAPABILITY", "75"}};
    is(queue(nullptr, [] {}), cudaErrorNoKernelImageForDevice, "sm_75 has no kernels");
  }
}

void test_allocation() {
  const Fresh fresh{{"SIMT_MEMORY_BYTES", "1000000"}};
  unsigned char* bytes = device_memory<unsigned char>(600000);
  check(bytes[0] == 0xFF && bytes[599999] == 0xFF, "device memory is poisoned");
  check(reinterpret_cast<uintptr_t>(bytes) % 256 == 0, "aligned to 256");
  size_t free_bytes = 0;
  size_t total = 0;
  ok(cudaMemGetInfo(&free_bytes, &total), "cudaMemGetInfo");
  check(free_bytes == 400000 && total == 1000000, "free and total");
  void* more = &total;
  is(cudaMalloc(&more, 400001), cudaErrorMemoryAllocation, "too much");
  check(more == &total, "an output is left alone on failure");
  is(cudaGetLastError(), cudaErrorMemoryAllocation, "kept as last error");
  ok(cudaMalloc(&more, 400000), "out of memory is not sticky");
  ok(cudaFree(more), "cudaFree");
  ok(cudaMalloc(&more, 0), "no bytes");
  check(more == nullptr, "no bytes: null");
  ok(cudaFree(nullptr), "cudaFree(null)");
  is(cudaFree(bytes + 1), cudaErrorInvalidValue, "inside of an allocation");
  is(cudaFreeHost(bytes), cudaErrorInvalidValue, "device memory is no pinned memory");
  int local = 0;
  is(cudaFree(&local), cudaErrorInvalidValue, "not allocated");
  cudaPointerAttributes attributes;
  ok(cudaPointerGetAttributes(&attributes, bytes + 599999), "attributes");
  check(attributes.type == cudaMemoryTypeDevice && attributes.device == 0, "device pointer");
  ok(cudaPointerGetAttributes(&attributes, &local), "attributes");
  check(attributes.type == cudaMemoryTypeUnregistered, "unregistered pointer");
  int* pinned = pinned_memory<int>(4);
  ok(cudaPointerGetAttributes(&attributes, pinned), "attributes");
  check(attributes.type == cudaMemoryTypeHost && attributes.devicePointer == pinned, "pinned");
  check(pinned[0] == -1, "pinned memory is poisoned");
  check(simt_allocation_count() == 2, "two allocations live");
  ok(cudaFree(bytes), "cudaFree");
  is(cudaFree(bytes), cudaErrorInvalidValue, "freed twice");
  ok(cudaFreeHost(pinned), "cudaFreeHost");
  check(simt_allocation_count() == 0, "none live");
  ok(cudaMemGetInfo(&free_bytes, nullptr), "cudaMemGetInfo");
  check(free_bytes == 1000000, "all free");
}

void test_copies() {
  const Fresh fresh;
  cudaStream_t stream = new_stream();
  int* device = device_memory<int>(8);
  int* pinned = pinned_memory<int>(8);
  std::vector<int> pageable = {1, 2, 3, 4, 5, 6, 7, 8};

  // Pinned memory is read when the stream runs: who reuses it too early sends the wrong bytes.
  for (int i = 0; i < 8; ++i) pinned[i] = i;
  ok(cudaMemcpyAsync(device, pinned, 32, cudaMemcpyHostToDevice, stream), "pinned to device");
  check(device[0] == -1, "nothing ran yet");
  pinned[0] = 77;
  ok(cudaStreamSynchronize(stream), "synchronise");
  check(device[0] == 77 && device[7] == 7, "pinned memory is read late");

  // Pageable memory is taken at the call.
  ok(cudaMemcpyAsync(device, pageable.data(), 32, cudaMemcpyHostToDevice, stream), "pageable");
  pageable.assign(8, 0);
  check(device[0] == 77, "nothing ran yet");
  ok(cudaStreamSynchronize(stream), "synchronise");
  check(device[0] == 1 && device[7] == 8, "pageable memory is read at once");

  // To pageable memory the call waits; to pinned memory it does not.
  ok(cudaMemcpyAsync(pinned, device, 32, cudaMemcpyDeviceToHost, stream), "to pinned");
  check(pinned[0] == 77, "pinned memory is written late");
  ok(cudaMemcpyAsync(pageable.data(), device, 32, cudaMemcpyDeviceToHost, stream), "to pageable");
  check(pinned[0] == 1 && pageable[7] == 8, "to pageable memory the call waits");

  // What CUDA would find or trip over.
  is(cudaMemcpyAsync(device, pinned, 33, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue,
     "past the end");
  is(cudaMemcpyAsync(device + 1, pinned, 32, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue,
     "past the end, offset");
  is(cudaMemcpyAsync(pageable.data(), pinned, 32, cudaMemcpyHostToDevice, stream),
     cudaErrorInvalidValue, "host pointer for a device");
  is(cudaMemcpyAsync(pageable.data(), pinned, 32, cudaMemcpyDeviceToHost, stream),
     cudaErrorInvalidValue, "pinned pointer for a device");
  is(cudaMemcpyAsync(device, device, 32, cudaMemcpyDeviceToHost, stream), cudaErrorInvalidValue,
     "device pointer for a host");
  is(cudaMemcpyAsync(device, pinned, 4, static_cast<cudaMemcpyKind>(7), stream),
     cudaErrorInvalidMemcpyDirection, "no direction");
  is(cudaMemcpyAsync(nullptr, pinned, 4, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue,
     "null");
  ok(cudaMemcpyAsync(nullptr, nullptr, 0, cudaMemcpyHostToDevice, stream), "no bytes");
  is(cudaMemsetAsync(device, 0, 33, stream), cudaErrorInvalidValue, "fill past the end");
  is(cudaMemsetAsync(pageable.data(), 0, 4, stream), cudaErrorInvalidValue, "fill of host memory");

  // Rows.
  int* grid = device_memory<int>(6);
  const int source[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
  ok(cudaMemcpy2DAsync(grid, 12, source, 16, 8, 2, cudaMemcpyHostToDevice, stream), "rows");
  ok(cudaStreamSynchronize(stream), "synchronise");
  check(grid[0] == 1 && grid[1] == 2 && grid[2] == -1 && grid[3] == 5 && grid[4] == 6 &&
            grid[5] == -1,
        "rows arrive, gaps stay");
  ok(cudaMemcpy2DAsync(grid, 16, source, 16, 8, 2, cudaMemcpyHostToDevice, stream), "ends in time");
  is(cudaMemcpy2DAsync(grid, 16, source, 16, 16, 2, cudaMemcpyHostToDevice, stream),
     cudaErrorInvalidValue, "rows past the end");
  is(cudaMemcpy2DAsync(grid, 4, source, 16, 8, 2, cudaMemcpyHostToDevice, stream),
     cudaErrorInvalidPitchValue, "rows wider than the pitch");

  // cudaMemset and copies within the device do not wait; cudaMemcpy to the host does.
  ok(cudaMemset(device, 0, 32), "cudaMemset");
  check(device[0] == 1, "cudaMemset does not wait");
  ok(cudaMemcpy(grid, device, 24, cudaMemcpyDeviceToDevice), "within the device");
  check(device[0] == 1, "copies within the device do not wait");
  ok(cudaMemcpy(pageable.data(), grid, 24, cudaMemcpyDeviceToHost), "cudaMemcpy");
  check(pageable[0] == 0 && pageable[5] == 0, "cudaMemcpy waits for the default stream");
}

void test_streams() {
  const Fresh fresh;
  std::string order;
  const auto note = [&order](char what) { return [&order, what] { order += what; }; };
  cudaStream_t a = new_stream();
  cudaStream_t b = new_stream();
  ok(queue(a, note('a')), "a");
  ok(queue(b, note('b')), "b");
  check(order.empty(), "work waits for somebody who waits");
  ok(cudaStreamSynchronize(b), "b");
  check(order == "b", "another stream is not run along");
  ok(cudaStreamSynchronize(a), "a");
  check(order == "ba", "a");

  // The default stream comes after blocking streams, and they after it; others do not care.
  cudaStream_t blocking = new_stream(cudaStreamDefault);
  order.clear();
  ok(queue(blocking, note('1')), "1");
  ok(queue(a, note('x')), "x");
  ok(queue(nullptr, note('2')), "2");
  ok(queue(blocking, note('3')), "3");
  ok(cudaStreamSynchronize(blocking), "blocking");
  check(order == "123", "order with the default stream: " + order);
  ok(cudaDeviceSynchronize(), "device");
  check(order == "123x", "the rest: " + order);

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
  check(order == "ab", "b waits for what came before the event only: " + order);
  ok(cudaEventSynchronize(event), "event");
  check(order == "ab", "done already");
  ok(cudaDeviceSynchronize(), "device");

  // Polls.
  order.clear();
  ok(queue(a, note('a')), "a");
  is(cudaStreamQuery(a), cudaErrorNotReady, "first poll");
  is(cudaStreamQuery(a), cudaErrorNotReady, "second poll");
  is(cudaStreamQuery(a), cudaErrorNotReady, "third poll");
  check(order.empty(), "polls do not run it");
  ok(cudaStreamQuery(a), "fourth poll");
  check(order == "a", "then it ran");
  ok(cudaEventRecord(event, a), "record");
  int polls = 0;
  while (cudaEventQuery(event) == cudaErrorNotReady && polls < 100) ++polls;
  check(polls == 3, "an event becomes ready");
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
  check(milliseconds >= 2, "at least 2 ms");
  is(cudaEventElapsedTime(&milliseconds, event, end), cudaErrorInvalidResourceHandle,
     "an event without timing");

  // Destroyed with work queued: the work still runs.
  order.clear();
  ok(queue(b, note('b')), "b");
  ok(cudaStreamDestroy(b), "destroy");
  check(order.empty(), "destroying does not wait");
  ok(cudaDeviceSynchronize(), "device");
  check(order == "b", "its work is not lost");
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
  check(all_queued, "a long queue");
  check(ran >= 5000 - 1024, "a full queue runs");
  ok(cudaStreamSynchronize(a), "a");
  check(ran == 5000, "all of it ran");

  // cudaFree waits.
  order.clear();
  int* memory = device_memory<int>(1);
  ok(queue(a, note('a')), "a");
  ok(cudaFree(memory), "free");
  check(order == "a", "cudaFree waits for the device");
}

void test_host_functions() {
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
  check(seen.calls == 1, "called once");
  check(seen.inside == cudaErrorNotPermitted, "CUDA calls inside are refused");
  check(seen.thread != std::this_thread::get_id(), "on another thread");
}

void test_capture() {
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
  check(status == cudaStreamCaptureStatusActive, "active");
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
  check(order.empty() && *device == -1, "capture runs nothing");
  size_t nodes = 0;
  ok(cudaGraphGetNodes(graph, nullptr, &nodes), "nodes");
  check(nodes == 5, "five nodes");
  ok(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  ok(cudaGraphDestroy(graph), "destroy graph");
  bool main_first = false;
  bool side_first = false;
  for (int i = 0; i < 32; ++i) {
    order.clear();
    pinned[0] = 10 * i;
    ok(cudaGraphLaunch(exec, stream), "launch");
    check(order.empty(), "a replay waits as well");
    ok(cudaStreamSynchronize(stream), "synchronise");
    check(pinned[1] == 10 * i + 1, "replay " + std::to_string(i));
    main_first = main_first || order == "ms";
    side_first = side_first || order == "sm";
  }
  check(main_first && side_first, "independent nodes run in both orders");
  order.clear();
  ok(cudaGraphLaunch(exec, stream), "launch");
  ok(cudaGraphLaunch(exec, side), "launch elsewhere");
  ok(cudaGraphExecDestroy(exec), "destroyed while queued");
  ok(cudaStreamSynchronize(side), "side");
  check(order.size() == 4, "the second launch comes after the first");
  is(cudaGraphLaunch(exec, stream), cudaErrorInvalidValue, "a destroyed graph");

  // Refused, and the capture is spoilt.
  const auto spoilt = [&](cudaError_t got, cudaError_t expected, const std::string& what) {
    is(got, expected, what);
    ok(cudaStreamIsCapturing(stream, &status), what);
    check(status == cudaStreamCaptureStatusInvalidated, what + ": invalidated");
    is(queue(stream, [] {}), cudaErrorStreamCaptureInvalidated, what + ": later work");
    cudaGraph_t none = reinterpret_cast<cudaGraph_t>(1);
    is(cudaStreamEndCapture(stream, &none), cudaErrorStreamCaptureInvalidated, what + ": end");
    check(none == nullptr, what + ": no graph");
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

void test_failures() {
  {
    const Fresh fresh{{"SIMT_FAIL", "malloc:2,copy:2,launch:1,graph:1,host:1"}};
    void* pointer = nullptr;
    ok(cudaMalloc(&pointer, 16), "first");
    void* second = nullptr;
    is(cudaMalloc(&second, 16), cudaErrorMemoryAllocation, "second");
    ok(cudaMalloc(&second, 16), "third");
    int value = 5;
    ok(cudaMemcpy(pointer, &value, 4, cudaMemcpyHostToDevice), "first copy");
    is(cudaMemcpy(pointer, &value, 4, cudaMemcpyHostToDevice), cudaErrorOperatingSystem,
       "second copy");
    ok(cudaMemcpy(pointer, &value, 4, cudaMemcpyHostToDevice), "third copy");
    is(queue(nullptr, [] {}), cudaErrorLaunchOutOfResources, "first launch");
    ok(queue(nullptr, [] {}), "second launch");
    void* host = nullptr;
    is(cudaMallocHost(&host, 16), cudaErrorMemoryAllocation, "first pinned");
    ok(cudaMallocHost(&host, 16), "second pinned");
    cudaStream_t stream = new_stream();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin");
    ok(queue(stream, [] {}), "captured");
    ok(cudaStreamEndCapture(stream, &graph), "end");
    is(cudaGraphInstantiate(&exec, graph, 0), cudaErrorMemoryAllocation, "first graph");
    ok(cudaGraphInstantiate(&exec, graph, 0), "second graph");
    check(simt::pending_faults() == 0, "all planned failures happened");
    static_cast<void>(cudaGetLastError());
  }
  {
    const Fresh fresh;
    check(!simt::set_faults("malloc"), "no count");
    check(!simt::set_faults("malloc:0"), "count 0");
    check(!simt::set_faults("mallocs:1"), "no such kind");
    check(simt_set_faults("malloc:1") == 1, "from C");
    simt::clear_faults();
    void* pointer = nullptr;
    ok(cudaMalloc(&pointer, 16), "cleared");
  }
  {
    // A sticky failure: this device is gone for everybody, the other goes on.
    const Fresh fresh{{"SIMT_DEVICES", "2"}, {"SIMT_FAIL", "sticky:2"}};
    int ran = 0;
    cudaStream_t stream = new_stream();
    int* memory = device_memory<int>(4);
    ok(queue(stream, [&] { ++ran; }), "first");
    ok(queue(stream, [&] { ++ran; }), "second");
    ok(queue(stream, [&] { ++ran; }), "third");
    is(cudaStreamSynchronize(stream), cudaErrorIllegalAddress, "synchronise");
    check(ran == 1, "nothing runs after the failure");
    is(cudaGetLastError(), cudaErrorIllegalAddress, "sticky");
    is(cudaGetLastError(), cudaErrorIllegalAddress, "still sticky");
    void* pointer = nullptr;
    is(cudaMalloc(&pointer, 16), cudaErrorIllegalAddress, "cudaMalloc");
    is(queue(stream, [&] { ++ran; }), cudaErrorIllegalAddress, "launch");
    is(cudaDeviceReset(), cudaErrorIllegalAddress, "cudaDeviceReset");
    is(cudaStreamDestroy(stream), cudaErrorIllegalAddress, "cudaStreamDestroy");
    is(cudaFree(memory), cudaErrorIllegalAddress, "cudaFree");
    int value = 0;
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 0), "attributes still answer");
    std::thread([] {
      is(cudaDeviceSynchronize(), cudaErrorIllegalAddress, "another thread, the same device");
    }).join();
    ok(cudaSetDevice(1), "the other device");
    ok(cudaGetLastError(), "which has no error");
    ok(queue(nullptr, [&] { ++ran; }), "launch there");
    ok(cudaDeviceSynchronize(), "synchronise there");
    check(ran == 2, "it ran");
    simt::revive_devices();
    ok(cudaSetDevice(0), "revived");
    ok(cudaMalloc(&pointer, 16), "allocates again");
    check(simt_allocation_count() == 1, "the failed device's memory was not lost");
  }
}

void test_kernels() {
  const Fresh fresh;
  int* values = device_memory<int>(100);
  ok(cudaMemset(values, 0, 400), "cudaMemset");
  ok(simt::launch(add_kernel, dim3(4), dim3(32), 0, nullptr, values, 100, 3), "launch");
  check(values[0] == -1, "nothing ran yet");
  std::vector<int> out(100);
  ok(cudaMemcpy(out.data(), values, 400, cudaMemcpyDeviceToHost), "download");
  check(out == std::vector<int>(100, 3), "every element once");

  is(simt::launch(add_kernel, dim3(1), dim3(2048), 0, nullptr, values, 100, 3),
     cudaErrorInvalidConfiguration, "2048 threads");
  is(simt::launch(add_kernel, dim3(0), dim3(32), 0, nullptr, values, 100, 3),
     cudaErrorInvalidConfiguration, "no blocks");
  is(simt::launch(add_kernel, dim3(1), dim3(32), 64 * 1024, nullptr, values, 100, 3),
     cudaErrorInvalidValue, "64 KiB of shared memory");
  is(cudaFuncSetAttribute(add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 164 * 1024),
     cudaErrorInvalidValue, "more than the device has");
  ok(cudaFuncSetAttribute(add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024),
     "raised");
  ok(simt::launch(add_kernel, dim3(1), dim3(32), 64 * 1024, nullptr, values, 100, 3), "64 KiB");
  cudaFuncAttributes attributes;
  ok(cudaFuncGetAttributes(&attributes, add_kernel), "function attributes");
  check(attributes.maxDynamicSharedSizeBytes == 64 * 1024, "limit of the function");
  int blocks = 0;
  ok(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add_kernel, 256, 50 * 1024),
     "occupancy");
  check(blocks == 3, "164 KiB hold three times 51");
  ok(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add_kernel, 1024, 0), "occupancy");
  check(blocks == 2, "2048 threads");
  ok(cudaDeviceSynchronize(), "synchronise");

  // A defective kernel ends the device.
  ok(simt::launch(half_barrier_kernel, dim3(1), dim3(64), 0, nullptr), "defective kernel");
  is(cudaDeviceSynchronize(), cudaErrorLaunchFailure, "defect");
  is(cudaMemset(values, 0, 4), cudaErrorLaunchFailure, "sticky");
  check(simt::runtime_counters().defects == 1, "counted");
  simt::revive_devices();
  simt::clear_defects();
  ok(cudaDeviceSynchronize(), "revived");
}

void test_threads() {
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
  check(errors == 0, "no errors from six threads");
  check(ran == 300, "every kernel ran once");
  check(simt_allocation_count() == 0, "all freed");
  char text[4096];
  const uint64_t length = simt_counters_json(text, sizeof text);
  check(length > 0 && length < sizeof text && text[0] == '{' && text[length - 1] == '}',
        "counters as JSON");
  check(std::strstr(text, "\"kernelsRun\":300") != nullptr, "counters count");
  char small[8];
  check(simt_counters_json(small, sizeof small) == length && small[7] == '\0', "cut off");
}

}  // namespace

void test_runtime() {
  test_machine();
  test_allocation();
  test_copies();
  test_streams();
  test_host_functions();
  test_capture();
  test_failures();
  test_kernels();
  test_threads();
}
