// The emulated machine, its memory and which copies are caught.
#include <cuda_runtime.h>
#include <simt/engine.h>
#include <simt/faults.h>
#include <simt/launch.h>

#include <string>
#include <thread>
#include <vector>

#include "runtime_harness.h"

namespace {

TEST_SUITE_BEGIN("runtime_memory");

TEST_CASE("machine") {
  {
    const Fresh fresh;
    int count = -1;
    ok(cudaGetDeviceCount(&count), "one device by default");
    CHECK_MESSAGE(count == 1, "one device");
    int version = 0;
    ok(cudaDriverGetVersion(&version), "driver version");
    CHECK_MESSAGE(version == 13000, "driver 13.0");
    int value = 0;
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), "attribute");
    CHECK_MESSAGE(value == 163 * 1024, "sm_80: 163 KiB per block");
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), "attribute");
    CHECK_MESSAGE(value == 4, "4 multiprocessors");
    is(cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(127), 0), cudaErrorInvalidValue,
       "unknown attribute");
    is(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 1), cudaErrorInvalidDevice, "device 1");
    is(cudaSetDevice(1), cudaErrorInvalidDevice, "cudaSetDevice(1)");
    is(cudaPeekAtLastError(), cudaErrorInvalidDevice, "peek keeps");
    is(cudaGetLastError(), cudaErrorInvalidDevice, "get takes");
    is(cudaGetLastError(), cudaSuccess, "taken");
    cudaDeviceProp properties;
    ok(cudaGetDeviceProperties(&properties, 0), "properties");
    CHECK_MESSAGE(properties.major == 8, "properties of sm_80");
    CHECK_MESSAGE(properties.minor == 0, "properties of sm_80");
    CHECK_MESSAGE(properties.warpSize == 32, "properties of sm_80");
    CHECK_MESSAGE((properties.totalGlobalMem == 4ull << 30), "properties of sm_80");
    CHECK_MESSAGE(
        std::string(cudaGetErrorName(cudaErrorIllegalAddress)) == "cudaErrorIllegalAddress",
        "error name");
    CHECK_MESSAGE(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory",
                  "error text");
    CHECK_MESSAGE(
        std::string(cudaGetErrorName(static_cast<cudaError_t>(998))) == "unrecognized error code",
        "unknown error");
  }
  {
    const Fresh fresh{{"SIMT_DRIVER", "none"}};
    int count = -1;
    is(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver, "no driver: count");
    int version = -1;
    ok(cudaDriverGetVersion(&version), "no driver: version");
    CHECK_MESSAGE(count == 0, "no driver: zero");
    CHECK_MESSAGE(version == 0, "no driver: zero");
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
      CHECK_MESSAGE(bytes == expected[device] * 1024, "shared memory of device ", device);
    }
    ok(cudaSetDevice(2), "cudaSetDevice(2)");
    int other = -1;
    std::thread([&] { cudaGetDevice(&other); }).join();
    int mine = -1;
    ok(cudaGetDevice(&mine), "cudaGetDevice");
    CHECK_MESSAGE(mine == 2, "the current device belongs to the thread");
    CHECK_MESSAGE(other == 0, "the current device belongs to the thread");
  }
  {
    const Fresh fresh{{"SIMT_COMPUTE_CAPABILITY", "75"}};
    is(queue(nullptr, [] {}), cudaErrorNoKernelImageForDevice, "sm_75 has no kernels");
  }
}

TEST_CASE("allocation") {
  const Fresh fresh{{"SIMT_MEMORY_BYTES", "1000000"}};
  unsigned char* bytes = device_memory<unsigned char>(600000);
  CHECK_MESSAGE(bytes[0] == 0xFF, "device memory is poisoned");
  CHECK_MESSAGE(bytes[599999] == 0xFF, "device memory is poisoned");
  CHECK_MESSAGE(reinterpret_cast<uintptr_t>(bytes) % 256 == 0, "aligned to 256");
  size_t free_bytes = 0;
  size_t total = 0;
  ok(cudaMemGetInfo(&free_bytes, &total), "cudaMemGetInfo");
  CHECK_MESSAGE(free_bytes == 400000, "free and total");
  CHECK_MESSAGE(total == 1000000, "free and total");
  void* more = &total;
  is(cudaMalloc(&more, 400001), cudaErrorMemoryAllocation, "too much");
  CHECK_MESSAGE(more == &total, "an output is left alone on failure");
  is(cudaGetLastError(), cudaErrorMemoryAllocation, "kept as last error");
  ok(cudaMalloc(&more, 400000), "out of memory is not sticky");
  ok(cudaFree(more), "cudaFree");
  ok(cudaMalloc(&more, 0), "no bytes");
  CHECK_MESSAGE(more == nullptr, "no bytes: null");
  ok(cudaFree(nullptr), "cudaFree(null)");
  is(cudaFree(bytes + 1), cudaErrorInvalidValue, "inside of an allocation");
  is(cudaFreeHost(bytes), cudaErrorInvalidValue, "device memory is no pinned memory");
  int local = 0;
  is(cudaFree(&local), cudaErrorInvalidValue, "not allocated");
  cudaPointerAttributes attributes;
  ok(cudaPointerGetAttributes(&attributes, bytes + 599999), "attributes");
  CHECK_MESSAGE(attributes.type == cudaMemoryTypeDevice, "device pointer");
  CHECK_MESSAGE(attributes.device == 0, "device pointer");
  ok(cudaPointerGetAttributes(&attributes, &local), "attributes");
  CHECK_MESSAGE(attributes.type == cudaMemoryTypeUnregistered, "unregistered pointer");
  int* pinned = pinned_memory<int>(4);
  ok(cudaPointerGetAttributes(&attributes, pinned), "attributes");
  CHECK_MESSAGE(attributes.type == cudaMemoryTypeHost, "pinned");
  CHECK_MESSAGE(attributes.devicePointer == pinned, "pinned");
  CHECK_MESSAGE(pinned[0] == -1, "pinned memory is poisoned");
  CHECK_MESSAGE(simt_allocation_count() == 2, "two allocations live");
  ok(cudaFree(bytes), "cudaFree");
  is(cudaFree(bytes), cudaErrorInvalidValue, "freed twice");
  ok(cudaFreeHost(pinned), "cudaFreeHost");
  CHECK_MESSAGE(simt_allocation_count() == 0, "none live");
  ok(cudaMemGetInfo(&free_bytes, nullptr), "cudaMemGetInfo");
  CHECK_MESSAGE(free_bytes == 1000000, "all free");
}

TEST_CASE("copies") {
  const Fresh fresh;
  cudaStream_t stream = new_stream();
  int* device = device_memory<int>(8);
  int* pinned = pinned_memory<int>(8);
  std::vector<int> pageable = {1, 2, 3, 4, 5, 6, 7, 8};

  // Pinned memory is read when the stream runs: who reuses it too early sends the wrong bytes.
  for (int i = 0; i < 8; ++i) pinned[i] = i;
  ok(cudaMemcpyAsync(device, pinned, 32, cudaMemcpyHostToDevice, stream), "pinned to device");
  CHECK_MESSAGE(device[0] == -1, "nothing ran yet");
  pinned[0] = 77;
  ok(cudaStreamSynchronize(stream), "synchronise");
  CHECK_MESSAGE(device[0] == 77, "pinned memory is read late");
  CHECK_MESSAGE(device[7] == 7, "pinned memory is read late");

  // Pageable memory is taken at the call.
  ok(cudaMemcpyAsync(device, pageable.data(), 32, cudaMemcpyHostToDevice, stream), "pageable");
  pageable.assign(8, 0);
  CHECK_MESSAGE(device[0] == 77, "nothing ran yet");
  ok(cudaStreamSynchronize(stream), "synchronise");
  CHECK_MESSAGE(device[0] == 1, "pageable memory is read at once");
  CHECK_MESSAGE(device[7] == 8, "pageable memory is read at once");

  // To pageable memory the call waits; to pinned memory it does not.
  ok(cudaMemcpyAsync(pinned, device, 32, cudaMemcpyDeviceToHost, stream), "to pinned");
  CHECK_MESSAGE(pinned[0] == 77, "pinned memory is written late");
  ok(cudaMemcpyAsync(pageable.data(), device, 32, cudaMemcpyDeviceToHost, stream), "to pageable");
  CHECK_MESSAGE(pinned[0] == 1, "to pageable memory the call waits");
  CHECK_MESSAGE(pageable[7] == 8, "to pageable memory the call waits");

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
  CHECK_MESSAGE(grid[0] == 1, "rows arrive, gaps stay");
  CHECK_MESSAGE(grid[1] == 2, "rows arrive, gaps stay");
  CHECK_MESSAGE(grid[2] == -1, "rows arrive, gaps stay");
  CHECK_MESSAGE(grid[3] == 5, "rows arrive, gaps stay");
  CHECK_MESSAGE(grid[4] == 6, "rows arrive, gaps stay");
  CHECK_MESSAGE(grid[5] == -1, "rows arrive, gaps stay");
  ok(cudaMemcpy2DAsync(grid, 16, source, 16, 8, 2, cudaMemcpyHostToDevice, stream), "ends in time");
  is(cudaMemcpy2DAsync(grid, 16, source, 16, 16, 2, cudaMemcpyHostToDevice, stream),
     cudaErrorInvalidValue, "rows past the end");
  is(cudaMemcpy2DAsync(grid, 4, source, 16, 8, 2, cudaMemcpyHostToDevice, stream),
     cudaErrorInvalidPitchValue, "rows wider than the pitch");

  // cudaMemset and copies within the device do not wait; cudaMemcpy to the host does.
  ok(cudaMemset(device, 0, 32), "cudaMemset");
  CHECK_MESSAGE(device[0] == 1, "cudaMemset does not wait");
  ok(cudaMemcpy(grid, device, 24, cudaMemcpyDeviceToDevice), "within the device");
  CHECK_MESSAGE(device[0] == 1, "copies within the device do not wait");
  ok(cudaMemcpy(pageable.data(), grid, 24, cudaMemcpyDeviceToHost), "cudaMemcpy");
  CHECK_MESSAGE(pageable[0] == 0, "cudaMemcpy waits for the default stream");
  CHECK_MESSAGE(pageable[5] == 0, "cudaMemcpy waits for the default stream");
}

TEST_SUITE_END();

}  // namespace
