// What a card does at best, noted and never judged: wgmma by width, bulk copies by the size of what they read
// from, and the way from one kernel to the next.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "conformance90/kernels_order.cuh"
#include "conformance90/report.h"
#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/ops/launch_stream.h"

namespace conformance90 {

constexpr int kRateThreads = 256;  // two groups, as in the matmul

// Products of what lies in shared memory, and nothing else but the store that keeps them.
template <int kColumns>
__global__ void __launch_bounds__(kRateThreads, 1) rate_kernel(uint32_t rounds, float* out) {
  SE_DYNAMIC_SHARED(shared);
  const uint32_t start = ptx::smem_u32(shared);
  const uint32_t padding = (kAlignment - start % kAlignment) % kAlignment;
  // bf16 near 1 of changing sign and mantissa: zeros would draw less power and clock higher.
  auto* words = reinterpret_cast<uint32_t*>(shared + padding);
  for (uint32_t i = threadIdx.x; i < (2 * kRows + kColumns) * kRowBytes / 4; i += kRateThreads)
    words[i] = 0x3f803f80u ^ (i * 2654435761u & 0x803f803fu);
  ptx::fence_proxy_async();
  __syncthreads();
  const uint32_t group = threadIdx.x / 128;
  const uint64_t left = operand_of(start + padding + group * kRows * kRowBytes);
  const uint64_t right = operand_of(start + padding + 2 * kRows * kRowBytes);
  float sums[kColumns / 2];
  for (uint32_t round = 0; round < rounds; ++round) {
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDepth / 16; ++step) {
      ptx::wgmma_m64k16_bf16<kColumns>(sums, left + 2 * step, right + 2 * step,
                                       round > 0 || step > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) total += sums[i];
  out[blockIdx.x * kRateThreads + threadIdx.x] = total;
}

// Boxes of 16 KiB by bulk copies, one after the other from all of a map, which nobody reads. Blocks begin at
// different boxes.
constexpr uint32_t kLoadStages = 8;
constexpr uint32_t kBoxBytes = 128 * kRowBytes;

__global__ void __launch_bounds__(32) load_kernel(const void* map, uint32_t boxes, uint32_t rounds) {
  SE_DYNAMIC_SHARED(shared);
  SE_SHARED(uint64_t, barriers, kLoadStages);
  if (threadIdx.x != 0) return;
  const uint32_t start = ptx::smem_u32(shared);
  const uint32_t padding = (kAlignment - start % kAlignment) % kAlignment;
  const uint32_t full = ptx::smem_u32(barriers);
  for (uint32_t i = 0; i < kLoadStages; ++i) ptx::mbarrier_init(full + i * 8, 1);
  ptx::fence_mbarrier_init();
  ptx::acquire_tensor_map(map);
  for (uint32_t i = 0; i < rounds + kLoadStages; ++i) {
    const uint32_t stage = i % kLoadStages;
    if (i >= kLoadStages) ptx::mbarrier_wait(full + stage * 8, (i / kLoadStages - 1) % 2);
    if (i >= rounds) continue;
    const uint32_t box = (blockIdx.x * 7 + i) % boxes;
    ptx::mbarrier_arrive_expect_tx(full + stage * 8, kBoxBytes);
    ptx::tma_load_2d(start + padding + stage * kBoxBytes, map, full + stage * 8, 0,
                     static_cast<int32_t>(box * 128));
  }
}

// Seconds from one event to the next.
template <typename Queue>
double seconds_of(cudaStream_t stream, const Queue& queue) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  must(cudaEventCreate(&begin), "event");
  must(cudaEventCreate(&end), "event");
  must(cudaEventRecord(begin, stream), "event");
  queue();
  must(cudaEventRecord(end, stream), "event");
  must(cudaEventSynchronize(end), "rate");
  float milliseconds = 0;
  must(cudaEventElapsedTime(&milliseconds, begin, end), "event");
  must(cudaEventDestroy(begin), "event");
  must(cudaEventDestroy(end), "event");
  return static_cast<double>(milliseconds) * 1e-3;
}

template <int kColumns>
void note_rate() {
#if defined(SIMT_EMULATOR)
  constexpr uint32_t kRounds = 2;
  constexpr uint32_t kBlocks = 1;
#else
  constexpr uint32_t kRounds = 40000;
  int multiprocessors = 0;
  must(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "attribute");
  const uint32_t kBlocks = static_cast<uint32_t>(multiprocessors);
#endif
  const DeviceArray<float> out(int64_t{kBlocks} * kRateThreads);
  const size_t bytes = kAlignment + static_cast<size_t>((2 * kRows + kColumns) * kRowBytes);
  run(rate_kernel<kColumns>, kBlocks, kRateThreads, bytes, 1u, out.data());
  const double seconds =
      seconds_of(nullptr, [&] { run(rate_kernel<kColumns>, kBlocks, kRateThreads, bytes, kRounds, out.data()); });
  const double flops = 2.0 * 2 * kRows * kColumns * kDepth * kRounds * kBlocks;
  char text[100];
  std::snprintf(text, sizeof text, "wgmma n%d: %.1f TFLOP/s", kColumns, flops / seconds * 1e-12);
#if !defined(SIMT_EMULATOR)
  note(text);
#endif
}

// What arrives in all multiprocessors from a set of so many MiB: from L2 where it holds the set.
inline void note_loads(uint32_t mebibytes) {
#if defined(SIMT_EMULATOR)
  constexpr uint32_t kRounds = 2 * kLoadStages + 3;
  constexpr uint32_t kBlocks = 2;
  const uint32_t boxes = mebibytes;
#else
  constexpr uint32_t kRounds = 20000;
  int multiprocessors = 0;
  must(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "attribute");
  const uint32_t kBlocks = static_cast<uint32_t>(multiprocessors);
  const uint32_t boxes = mebibytes * 1024 * 1024 / kBoxBytes;
#endif
  const int64_t rows = int64_t{boxes} * 128;
  const DeviceArray<uint16_t> memory(rows * kDepth);
  const void* matrix = memory.data();
  const sparse_experts::cuda::WeightMatrices matrices = {SE_BF16, 1,    nullptr, &matrix, false,
                                                         rows,    kDepth, kDepth};
  std::vector<uint8_t> map(sparse_experts::cuda::kWeightMapBytes);
  if (!sparse_experts::cuda::encode_wg_weight_maps(matrices, map.data()))
    return report(false, "the driver refuses a map");
  const DeviceArray<uint8_t> map_on_device(map);
  const auto load = [&](uint32_t rounds) {
    run(load_kernel, kBlocks, 32, kAlignment + kLoadStages * kBoxBytes,
        static_cast<const void*>(map_on_device.data()), boxes, rounds);
  };
  load(kLoadStages);
  const double seconds = seconds_of(nullptr, [&] { load(kRounds); });
  char text[100];
  std::snprintf(text, sizeof text, "bulk copies from %u MiB: %.0f GB/s", mebibytes,
                static_cast<double>(kBoxBytes) * kRounds * kBlocks / seconds * 1e-9);
#if !defined(SIMT_EMULATOR)
  note(text);
#endif
}

// Kernels that do next to nothing, in a graph.
inline void note_launches(bool early) {
#if defined(SIMT_EMULATOR)
  constexpr uint32_t kKernels = 4;
#else
  constexpr uint32_t kKernels = 1000;
#endif
  const DeviceArray<uint32_t> counts(std::vector<uint32_t>(kChainThreads, 0));
  cudaStream_t stream = nullptr;
  must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (uint32_t i = 0; i < kKernels; ++i) {
    const sparse_experts::cuda::LaunchStream next(stream, early && i > 0);
    must(sparse_experts::cuda::launch(count_kernel, dim3(1), dim3(kChainThreads), 0, next,
                                      counts.data()),
         "launch");
  }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  must(cudaStreamEndCapture(stream, &graph), "capture");
  must(cudaGraphInstantiate(&exec, graph, 0), "graph");
  must(cudaGraphLaunch(exec, stream), "replay");
  const double seconds =
      seconds_of(stream, [&] { must(cudaGraphLaunch(exec, stream), "replay"); });
  must(cudaGraphExecDestroy(exec), "graph");
  must(cudaGraphDestroy(graph), "graph");
  must(cudaStreamDestroy(stream), "stream");
  report(counts.download()[0] == 2 * kKernels, "each kernel of the graph counted once");
  char text[100];
  std::snprintf(text, sizeof text, "kernel to kernel in a graph, %s: %.2f us",
                early ? "early" : "in turn", seconds / kKernels * 1e6);
#if !defined(SIMT_EMULATOR)
  note(text);
#endif
}

inline void rates() {
  note_rate<64>();
  note_rate<128>();
  note_rate<192>();
  note_rate<256>();
  #if defined(SIMT_EMULATOR)
  note_loads(3);
#else
  for (const uint32_t mebibytes : {8u, 24u, 40u, 400u}) note_loads(mebibytes);
#endif
  bool early = false;
  must(sparse_experts::cuda::find_early_launches(&early), "early launches");
  note_launches(false);
  if (early) note_launches(true);
}

}  // namespace conformance90
