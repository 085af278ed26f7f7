// How devices and launches fail, on request and by mistake.
#include <cuda_runtime.h>
#include <simt/engine.h>
#include <simt/faults.h>
#include <simt/launch.h>

#include <thread>
#include <vector>

#include "runtime_harness.h"

namespace {

TEST_SUITE_BEGIN("runtime_failures");

__global__ void add_kernel(int* values, int count, int amount) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) values[i] += amount;
}

__global__ void half_barrier_kernel() {
  if (threadIdx.x < 32) __syncthreads();
}

TEST_CASE("failures") {
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
    CHECK_MESSAGE(simt::pending_faults() == 0, "all planned failures happened");
    static_cast<void>(cudaGetLastError());
  }
  {
    const Fresh fresh;
    CHECK_MESSAGE(!simt::set_faults("malloc"), "no count");
    CHECK_MESSAGE(!simt::set_faults("malloc:0"), "count 0");
    CHECK_MESSAGE(!simt::set_faults("mallocs:1"), "no such kind");
    CHECK_MESSAGE(simt_set_faults("malloc:1") == 1, "from C");
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
    CHECK_MESSAGE(ran == 1, "nothing runs after the failure");
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
    CHECK_MESSAGE(ran == 2, "it ran");
    simt::revive_devices();
    ok(cudaSetDevice(0), "revived");
    ok(cudaMalloc(&pointer, 16), "allocates again");
    CHECK_MESSAGE(simt_allocation_count() == 1, "the failed device's memory was not lost");
  }
}

TEST_CASE("kernels") {
  const Fresh fresh;
  int* values = device_memory<int>(100);
  ok(cudaMemset(values, 0, 400), "cudaMemset");
  ok(simt::launch(add_kernel, dim3(4), dim3(32), 0, nullptr, values, 100, 3), "launch");
  CHECK_MESSAGE(values[0] == -1, "nothing ran yet");
  std::vector<int> out(100);
  ok(cudaMemcpy(out.data(), values, 400, cudaMemcpyDeviceToHost), "download");
  CHECK_MESSAGE(out == std::vector<int>(100, 3), "every element once");

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
  CHECK_MESSAGE(attributes.maxDynamicSharedSizeBytes == 64 * 1024, "limit of the function");
  int blocks = 0;
  ok(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add_kernel, 256, 50 * 1024),
     "occupancy");
  CHECK_MESSAGE(blocks == 3, "164 KiB hold three times 51");
  ok(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add_kernel, 1024, 0), "occupancy");
  CHECK_MESSAGE(blocks == 2, "2048 threads");
  ok(cudaDeviceSynchronize(), "synchronise");

  // A defective kernel ends the device.
  ok(simt::launch(half_barrier_kernel, dim3(1), dim3(64), 0, nullptr), "defective kernel");
  is(cudaDeviceSynchronize(), cudaErrorLaunchFailure, "defect");
  is(cudaMemset(values, 0, 4), cudaErrorLaunchFailure, "sticky");
  CHECK_MESSAGE(simt::runtime_counters().defects == 1, "counted");
  simt::revive_devices();
  simt::clear_defects();
  ok(cudaDeviceSynchronize(), "revived");
}

TEST_SUITE_END();

}  // namespace
