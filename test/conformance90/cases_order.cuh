// What orders the parts of the warp-group matmul: the ring, proxies, registers, early kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <vector>

#include "conformance/case_builder.cuh"
#include "conformance90/kernels_order.cuh"
#include "conformance90/report.h"
#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/ops/launch_stream.h"

namespace conformance90 {

// The emulator orders every access by the rules: few rounds say there what many say on a card.
#if defined(SIMT_EMULATOR)
constexpr uint32_t kRingRounds = 30;
constexpr uint32_t kProxyTries = 6;
constexpr uint32_t kProxyBlocks = 1;
constexpr int kChainReplays = 3;
constexpr uint32_t kChainBlocks = 2;
#else
constexpr uint32_t kRingRounds = 100000;
constexpr uint32_t kProxyTries = 8000;
constexpr uint32_t kProxyBlocks = 132;
constexpr int kChainReplays = 100000;
constexpr uint32_t kChainBlocks = 132;
#endif

inline void ring_of_stages() {
  using sparse_experts::cuda::encode_wg_weight_maps;
  using sparse_experts::cuda::kWeightMapBytes;
  conformance::Random random(21);
  const auto draw = [&](size_t count) {
    std::vector<uint16_t> halves(count);
    for (uint16_t& bits : halves) bits = static_cast<uint16_t>(random.below(0x10000));
    return halves;
  };
  constexpr int64_t kMapRows = int64_t{kBlocksOfRows} * ShortRing::kRows;
  const std::vector<uint16_t> weights = draw(kMapRows * kDepth);
  const std::vector<uint16_t> tokens = draw(size_t{kBlocksOfRows} * kTokenChunks * 8);
  const DeviceArray<uint4> weights_on_device = upload_halves(weights);
  const DeviceArray<uint4> tokens_on_device = upload_halves(tokens);
  const void* matrix = weights_on_device.data();
  const sparse_experts::cuda::WeightMatrices matrices = {SE_BF16, 1,      nullptr, &matrix, false,
                                                         kMapRows, kDepth, kDepth};
  std::vector<uint8_t> map(kWeightMapBytes);
  if (!encode_wg_weight_maps(matrices, map.data())) return report(false, "the driver refuses a map");
  const DeviceArray<uint8_t> map_on_device(map);
  const DeviceArray<uint32_t> sums(ShortRing::kConsumers);
  run(ring_kernel, 1, ShortRing::kBlockThreads,
      kAlignment + ShortRing::kStages * ShortRing::kStageBytes,
      static_cast<const void*>(map_on_device.data()), tokens_on_device.data(), kRingRounds,
      sums.data());
  const std::vector<uint32_t> got = sums.download();
  // Rows of 8 chunks; chunk c of row r lies at c ^ r % 8 where a map put it.
  const auto add = [](uint32_t sum, const std::vector<uint16_t>& halves, size_t chunk) {
    uint32_t words[4];
    std::memcpy(words, halves.data() + chunk * 8, sizeof words);
    for (const uint32_t word : words) sum = sum * 31 + word;
    return sum;
  };
  size_t wrong = 0;
  for (uint32_t thread = 0; thread < ShortRing::kConsumers; ++thread) {
    uint32_t sum = 0;
    for (uint32_t round = 0; round < kRingRounds; ++round) {
      const uint32_t block = round % kBlocksOfRows;
      for (uint32_t at = thread; at < kWeightChunks + kTokenChunks; at += ShortRing::kConsumers) {
        const uint32_t row = at / kChunks;
        if (at < kWeightChunks) {
          sum = add(sum, weights, block * kWeightChunks + row * kChunks + (at % kChunks ^ row % 8));
        } else {
          sum = add(sum, tokens, block * kTokenChunks + at - kWeightChunks);
        }
      }
    }
    if (got[thread] != sum) ++wrong;
  }
  report(wrong == 0, std::to_string(kRingRounds) + " turns of a ring of " +
                         std::to_string(ShortRing::kStages) + " stages: " + std::to_string(wrong) +
                         " of " + std::to_string(got.size()) + " consumers read something else");
}

template <bool kFenced>
uint32_t wrong_after_cp_async() {
  conformance::Random random(22);
  std::vector<uint16_t> identity(kRows * kDepth, 0);
  for (size_t row = 0; row < kRows; ++row) identity[row * kDepth + row] = 0x3f80;  // 1
  std::vector<uint16_t> sources(2 * kRows * kDepth);
  for (uint16_t& bits : sources) bits = static_cast<uint16_t>(0x3f00 + random.below(0x100));
  const DeviceArray<uint4> identity_on_device = upload_halves(identity);
  const DeviceArray<uint4> sources_on_device = upload_halves(sources);
  const DeviceArray<uint32_t> wrong(std::vector<uint32_t>{0});
  run(proxy_kernel<kFenced>, kProxyBlocks, 128, kAlignment + 2 * kRows * kRowBytes,
      identity_on_device.data(), sources_on_device.data(), kProxyTries, wrong.data());
  return wrong.download()[0];
}

inline void writes_before_wgmma() {
  const std::string tries = std::to_string(kProxyTries * kProxyBlocks) + " times cp.async, then wgmma";
#if !defined(SIMT_EMULATOR)
  // The emulator takes it for the mistake that it is.
  note(tries + " without a fence between: " + std::to_string(wrong_after_cp_async<false>()) +
       " elements are old");
#endif
  const uint32_t wrong = wrong_after_cp_async<true>();
  report(wrong == 0, tries + " with a fence between: " + std::to_string(wrong) + " elements are old");
}

template <int kConsumer, int kProducer>
void check_registers() {
  const DeviceArray<uint32_t> out(384);
  run(registers_kernel<kConsumer, kProducer>, 1, 384, 0, out.data());
  const std::vector<uint32_t> got = out.download();
  size_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] != static_cast<uint32_t>(i < 256 ? kConsumer : kProducer)) ++wrong;
  }
  report(wrong == 0, "256 threads of " + std::to_string(kConsumer) + " registers, 128 of " +
                         std::to_string(kProducer));
}

inline void registers_of_roles() {
  check_registers<224, 56>();
  check_registers<232, 40>();
  check_registers<240, 24>();
}

// Six kernels that may each start early, in a graph, again and again. Wrong elements.
template <bool kEarlyRead>
uint32_t wrong_in_chain(bool early) {
  constexpr uint32_t kSteps = 4;
  constexpr int64_t kSize = int64_t{kChainBlocks} * kChainThreads;
  std::vector<DeviceArray<uint32_t>> arrays;
  for (uint32_t i = 0; i <= kSteps; ++i)
    arrays.emplace_back(std::vector<uint32_t>(kSize, 0));
  const DeviceArray<uint32_t> wrong(std::vector<uint32_t>{0});
  cudaStream_t stream = nullptr;
  must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  const dim3 grid(kChainBlocks);
  const dim3 block(kChainThreads);
  const sparse_experts::cuda::LaunchStream next(stream, early);
  must(sparse_experts::cuda::launch(count_kernel, grid, block, 0, stream, arrays[0].data()),
       "launch");
  for (uint32_t step = 0; step < kSteps; ++step) {
    must(sparse_experts::cuda::launch(chain_kernel<kEarlyRead>, grid, block, 0, next,
                                      static_cast<const uint32_t*>(arrays[step].data()),
                                      arrays[step + 1].data(), step),
         "launch");
  }
  must(sparse_experts::cuda::launch(compare_kernel, grid, block, 0, next,
                                    static_cast<const uint32_t*>(arrays[0].data()),
                                    static_cast<const uint32_t*>(arrays[kSteps].data()), kSteps,
                                    wrong.data()),
       "launch");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  must(cudaStreamEndCapture(stream, &graph), "capture");
  must(cudaGraphInstantiate(&exec, graph, 0), "graph");
  for (int i = 0; i < kChainReplays; ++i) must(cudaGraphLaunch(exec, stream), "replay");
  must(cudaStreamSynchronize(stream), "replays");
  must(cudaGraphExecDestroy(exec), "graph");
  must(cudaGraphDestroy(graph), "graph");
  must(cudaStreamDestroy(stream), "stream");
  return wrong.download()[0];
}

inline void chain_of_early_kernels() {
  bool early = false;
  must(sparse_experts::cuda::find_early_launches(&early), "early launches");
  const std::string replays = std::to_string(kChainReplays) + " replays of six kernels";
  note(early ? "kernels may start early" : "kernels start in turn");
#if !defined(SIMT_EMULATOR)
  report(early, "the code for this device waits by itself");
  note(replays + " that read before they wait: " + std::to_string(wrong_in_chain<true>(early)) +
       " elements are old");
#endif
  const uint32_t wrong = wrong_in_chain<false>(early);
  report(wrong == 0, replays + ": " + std::to_string(wrong) + " elements are wrong");
}

}  // namespace conformance90
