// What this GPU can do at best, by its own clock: the denominators of every share in a report.
#include <algorithm>
#include <vector>

#include "bench_layer.h"
#include "cuda/common/launch.cuh"
#include "cuda/common/ptx.cuh"

namespace sparse_experts::bench {
namespace {

constexpr int kMmaThreads = 256;
constexpr int kMmaTiles = 8;  // independent accumulators per warp: enough to hide the latency

// Products of registers: no memory but the one store that keeps them alive.
__global__ void __launch_bounds__(kMmaThreads) mma_rate_kernel(float* out, int32_t rounds) {
  float sums[kMmaTiles][4] = {};
  // bf16 values near 1 of changing sign: zeros would draw less power and clock higher.
  const uint32_t a[4] = {0x3f813f7eu ^ threadIdx.x << 3, 0xbf7d3f83u, 0x3f84bf7cu, 0x3f7b3f85u};
  const uint32_t b[2] = {0xbf823f7fu ^ threadIdx.x << 2, 0x3f7abf86u};
  for (int32_t round = 0; round < rounds; ++round) {
#pragma unroll
    for (int tile = 0; tile < kMmaTiles; ++tile) cuda::ptx::mma_m16n8k16_bf16(sums[tile], a, b);
  }
  float total = 0;
#pragma unroll
  for (int tile = 0; tile < kMmaTiles; ++tile) {
    total += sums[tile][0] + sums[tile][1] + sums[tile][2] + sums[tile][3];
  }
  out[blockIdx.x * kMmaThreads + threadIdx.x] = total;
}

// Median seconds of `run`, after one that is not counted.
template <typename Run>
double median_seconds(const Run& run) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  must(cudaEventCreate(&begin), "event");
  must(cudaEventCreate(&end), "event");
  std::vector<double> seconds;
  for (int i = 0; i < 8; ++i) {
    must(cudaEventRecord(begin, nullptr), "event");
    run();
    must(cudaEventRecord(end, nullptr), "event");
    must(cudaEventSynchronize(end), "limits");
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, begin, end), "event");
    if (i > 0) seconds.push_back(milliseconds * 1e-3);
  }
  must(cudaEventDestroy(begin), "event");
  must(cudaEventDestroy(end), "event");
  std::nth_element(seconds.begin(), seconds.begin() + 3, seconds.end());
  return seconds[3];
}

#if defined(SIMT_EMULATOR)
constexpr uint64_t kCopyBytes = uint64_t{1} << 20;
constexpr int32_t kRounds = 4;
#else
constexpr uint64_t kCopyBytes = uint64_t{4} << 30;
constexpr int32_t kRounds = 20000;
#endif

}  // namespace

double measure_copy_bandwidth() {
  const DeviceMemory from = allocate(kCopyBytes, "copy");
  const DeviceMemory to = allocate(kCopyBytes, "copy");
  fill_f32(reinterpret_cast<float*>(from.get()), kCopyBytes / 4, 1.0f, 3, nullptr);
  const double seconds = median_seconds([&] {
    must(cudaMemcpyAsync(to.get(), from.get(), kCopyBytes, cudaMemcpyDeviceToDevice, nullptr),
         "copy");
  });
  return 2.0 * static_cast<double>(kCopyBytes) / seconds;
}

double measure_mma_rate() {
  int multiprocessors = 0;
  must(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "attribute");
  const int blocks = 2 * multiprocessors;
  const DeviceMemory out = allocate(static_cast<uint64_t>(blocks) * kMmaThreads * 4, "rate");
  const double seconds = median_seconds([&] {
    must(cuda::launch(mma_rate_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kMmaThreads), 0,
                      nullptr, reinterpret_cast<float*>(out.get()), kRounds),
         "rate");
  });
  constexpr int kWarps = kMmaThreads / 32;
  const double flops = 2.0 * 16 * 8 * 16 * kMmaTiles * kWarps * blocks;
  return flops * kRounds / seconds;
}

}  // namespace sparse_experts::bench
