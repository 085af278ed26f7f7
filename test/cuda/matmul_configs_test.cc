// Which kernel and which stages each expert matmul takes: a table of layers, and what a sweep may launch.
// Sizes and limits alone decide, so these are cases of the host; only the last one launches.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/architecture.h"
#include "cuda/context.h"
#include "cuda/harness.h"
#include "cuda/matmul_half_problem.h"
#include "cuda/ops/expert_matmul.h"

#if defined(SIMT_EMULATOR)
#include <simt/counters.h>
#endif

namespace native_test {
namespace {

TEST_SUITE_BEGIN("matmul_configs");

using sparse_experts::cuda::choose_matmul;
using sparse_experts::cuda::describe_matmul;
using sparse_experts::cuda::DeviceLimits;
using sparse_experts::cuda::list_matmul_configs;

constexpr DeviceLimits kH200 = {90, 132, 227 << 10, 228 << 10, 50 << 20};
constexpr DeviceLimits kA100 = {80, 108, 163 << 10, 164 << 10, 40 << 20};
constexpr DeviceLimits kL40S = {89, 142, 99 << 10, 100 << 10, 96 << 20};

struct Sizes {
  const char* name;
  int64_t hidden, intermediate, experts, top_k;
};
constexpr Sizes kOlmoe = {"OLMoE", 2048, 1024, 64, 8};
constexpr Sizes kMixtral = {"Mixtral", 4096, 14336, 8, 2};
constexpr Sizes kQwen3 = {"Qwen3-30B", 2048, 768, 128, 8};
constexpr Sizes kLayers[] = {kOlmoe, kMixtral, kQwen3};

MatmulShape shape_of(const Sizes& sizes, bool gated, int64_t num_tokens) {
  MatmulShape shape = {};
  shape.dtype = SE_BF16;
  shape.gated = gated ? 1 : 0;
  shape.rows = gated ? sizes.intermediate : sizes.hidden;
  shape.cols = gated ? sizes.hidden : sizes.intermediate;
  shape.num_experts = sizes.experts;
  shape.top_k = sizes.top_k;
  shape.num_tokens = num_tokens;
  shape.bulk_ready = 1;
  return shape;
}

std::string text_of(const MatmulConfig& config) {
  char text[200];
  describe_matmul(config, text, sizeof text);
  return text;
}

// The words in front of the number of blocks: kernel, tile, stages, warps.
std::string kernel_of(const MatmulConfig& config) {
  const std::string text = text_of(config);
  size_t end = 0;
  for (int comma = 0; comma < 2 && end != std::string::npos; ++comma) end = text.find(',', end + 1);
  return text.substr(0, end);
}

TEST_CASE("of layers on an H200") {
  struct Row {
    Sizes sizes;
    int64_t num_tokens;
    const char* gate_up;
    const char* down;
  };
  // Tokens per expert rise from row to row within a layer.
  const Row rows[] = {
      {kOlmoe, 1, "bf16 mma 32x8x64, 6 stages", "bf16 mma 64x8x64, 6 stages"},
      {kOlmoe, 64, "bf16 mma 32x16x64, 4 stages", "bf16 mma 64x16x64, 4 stages"},
      {kOlmoe, 192, "bf16 mma 64x32x64, 4 stages", "bf16 mma 128x32x64, 4 stages"},
      {kOlmoe, 200, "bf16 wgmma 64x64x64, 8 stages", "bf16 wgmma 128x64x64, 8 stages"},
      {kOlmoe, 512, "bf16 wgmma 64x128x64, 6 stages", "bf16 wgmma 128x128x64, 6 stages"},
      {kOlmoe, 2048, "bf16 wgmma 64x192x64, 4 stages", "bf16 wgmma 128x192x64, 4 stages"},
      {kOlmoe, 4096, "bf16 wgmma 64x256x64, 4 stages", "bf16 wgmma 128x256x64, 4 stages"},
      {kMixtral, 64, "bf16 mma 64x32x64, 4 stages", "bf16 mma 128x32x64, 4 stages"},
      {kMixtral, 512, "bf16 wgmma 64x128x64, 6 stages", "bf16 wgmma 128x128x64, 6 stages"},
      {kMixtral, 4096, "bf16 wgmma 64x256x64, 4 stages", "bf16 wgmma 128x256x64, 4 stages"},
      {kQwen3, 512, "bf16 wgmma 64x64x64, 8 stages", "bf16 wgmma 128x64x64, 8 stages"},
      {kQwen3, 4096, "bf16 wgmma 64x192x64, 4 stages", "bf16 wgmma 128x192x64, 4 stages"},
  };
  for (const Row& row : rows) {
    const std::string at = std::string(row.sizes.name) + " T=" + std::to_string(row.num_tokens);
    const auto chosen = [&](bool gated) {
      return kernel_of(choose_matmul(shape_of(row.sizes, gated, row.num_tokens), kH200));
    };
    CHECK_MESSAGE(chosen(true) == std::string(row.gate_up), at, ", gate and up");
    CHECK_MESSAGE(chosen(false) == std::string(row.down), at, ", down");
  }
}

// What the memory of a multiprocessor has room for decides the stages of the same tile.
TEST_CASE("stages by shared memory") {
  const MatmulShape large = shape_of(kOlmoe, false, 4096);
  CHECK(kernel_of(choose_matmul(large, kA100)) == "bf16 mma 128x128x32, 4 stages");
  // Two blocks of three stages would not fit: one, of six.
  CHECK(kernel_of(choose_matmul(large, kL40S)) == "bf16 mma 128x128x32, 6 stages");
  CHECK(choose_matmul(large, kL40S).blocks_per_multiprocessor == 1);
  MatmulShape without_maps = large;
  without_maps.bulk_ready = 0;
  CHECK(kernel_of(choose_matmul(without_maps, kH200)) == "bf16 mma 128x128x32, 6 stages");
}

bool is_same(const MatmulConfig& a, const MatmulConfig& b) {
  return a.variant == b.variant && a.kernel == b.kernel && a.tile_tokens == b.tile_tokens &&
         a.stages == b.stages && a.blocks_per_multiprocessor == b.blocks_per_multiprocessor &&
         a.grid == b.grid && a.split_k == b.split_k && a.shared_bytes == b.shared_bytes;
}

TEST_CASE("what a sweep launches") {
  for (const DeviceLimits& limits : {kA100, kL40S, kH200}) {
    for (const Sizes& sizes : kLayers) {
      for (const int64_t num_tokens : {1, 16, 512, 4096}) {
        for (const bool gated : {true, false}) {
          const MatmulShape shape = shape_of(sizes, gated, num_tokens);
          const MatmulConfig chosen = choose_matmul(shape, limits);
          const std::vector<MatmulConfig> configs = list_matmul_configs(shape, limits);
          const std::string at = std::string(sizes.name) + " T=" + std::to_string(num_tokens) +
                                 ", sm_" + std::to_string(limits.compute_capability);
          int64_t same = 0;
          int64_t twice = 0;
          for (size_t i = 0; i < configs.size(); ++i) {
            same += is_same(configs[i], chosen) ? 1 : 0;
            CHECK_MESSAGE(configs[i].shared_bytes <= limits.shared_bytes_per_block, at);
            CHECK_MESSAGE(configs[i].shared_bytes * configs[i].blocks_per_multiprocessor <=
                              limits.shared_bytes_per_multiprocessor,
                          at);
            for (size_t j = 0; j < i; ++j) twice += is_same(configs[i], configs[j]) ? 1 : 0;
          }
          CHECK_MESSAGE(twice == 0, at, ": each once");
          CHECK_MESSAGE(same == 1, at, ": the chosen one is among them once");
          const auto widths =
              std::count_if(configs.begin(), configs.end(), [](const MatmulConfig& config) {
                return text_of(config).find("wgmma") != std::string::npos;
              });
          CHECK_MESSAGE(widths == (limits.compute_capability == 90 ? 4 : 0), at);
        }
      }
    }
  }
}

#if defined(SIMT_EMULATOR)
// Of few columns, so that K is split by none of them: then all have the same bits.
TEST_CASE("each of them has the bits of the chosen one") {
  const Architecture hopper("90");
  must(sparse_experts::cuda::prepare_expert_matmul(device_limits()), "prepare_expert_matmul");
  for (const bool gated : {true, false}) {
    MatmulSpec spec;
    spec.seed = 17;
    spec.gated = gated;
    spec.rows = gated ? 72 : 136;
    spec.cols = 168;
    spec.counts = {3, 0, 40};
    MatmulProblem problem(spec);
    MatmulShape shape = problem.shape();
    shape.bulk_ready = problem.is_bulk_ready() ? 1 : 0;
    const MatmulConfig chosen = choose_matmul(shape, device_limits());
    const std::vector<uint8_t> expected = problem.run(chosen, "chosen");
    problem.check_outputs(expected, "chosen");
    for (const MatmulConfig& config : list_matmul_configs(shape, device_limits())) {
      if (!is_first_schedule() && config.blocks_per_multiprocessor > 1) continue;
      check_same_bits(problem.run(config, text_of(config)), expected, text_of(config));
    }
  }
}

// Products for the least width of an instance that holds the tokens of an expert's last tile.
TEST_CASE("a last tile costs what its tokens need") {
  struct Row {
    int32_t tile_tokens;
    int64_t tokens, multiplied;
  };
  must(sparse_experts::cuda::prepare_expert_matmul(device_limits()), "prepare_expert_matmul");
  const Row rows[] = {{128, 129, 128 + 16}, {128, 33, 48}, {128, 48, 48},  {128, 49, 64},
                      {128, 65, 96},        {128, 96, 96}, {128, 97, 128}, {32, 17, 24},
                      {32, 24, 24},         {32, 25, 32}};
  for (const Row& row : rows) {
    MatmulSpec spec;
    spec.seed = 18;
    spec.gated = false;
    spec.rows = 128;
    spec.cols = 128;
    spec.counts = {row.tokens};
    MatmulProblem problem(spec);
    const std::vector<MatmulConfig> configs = list_matmul_configs(problem.shape(), device_limits());
    const auto config =
        std::find_if(configs.begin(), configs.end(), [&](const MatmulConfig& candidate) {
          return candidate.tile_rows == 128 && candidate.tile_tokens == row.tile_tokens;
        });
    const std::string name = std::to_string(row.tokens) + " tokens";
    if (!CHECK_MESSAGE(config != configs.end(), name)) continue;
    simt::reset_counters();
    const std::vector<uint8_t> out = problem.run(*config, name);
    const uint64_t mma = simt::counters().mma;
    problem.check_outputs(out, name);
    // m16n8k16 over 128 rows and 128 columns.
    CHECK_MESSAGE(mma == static_cast<uint64_t>(8 * 8 * row.multiplied / 8), name, ": ", mma);
  }
}
#endif

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
