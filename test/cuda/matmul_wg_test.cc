// The expert matmul on warp-group instructions: the bits of mma.sync, which calls it serves, what it
// reads. Where the device is no Hopper the emulator stands in for one; the cases of matmul_half run all
// of its widths as well, wherever the device of the run has them.
#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/architecture.h"
#include "cuda/context.h"
#include "cuda/harness.h"
#include "cuda/matmul_half_problem.h"
#include "cuda/wg_configs.h"

#if defined(SIMT_EMULATOR)
#include <simt/counters.h>
#endif

namespace native_test {
namespace {

TEST_SUITE_BEGIN("matmul_wg");

using sparse_experts::cuda::choose_matmul;
using sparse_experts::cuda::describe_matmul;
using sparse_experts::cuda::DeviceLimits;
using sparse_experts::cuda::encode_wg_weight_maps;
using sparse_experts::cuda::kWeightMapBytes;
using sparse_experts::cuda::launch_expert_matmul;
using sparse_experts::cuda::prepare_expert_matmul;
using sparse_experts::cuda::WeightMatrices;

// An emulated one, or the device of the run where that is one.
struct Hopper {
#if defined(SIMT_EMULATOR)
  Architecture architecture{"90"};
#endif
  const bool is_here = device_limits().compute_capability == 90;
  Hopper() {
    if (is_here) must(prepare_expert_matmul(device_limits()), "prepare_expert_matmul");
  }
};

std::string text_of(const MatmulConfig& config) {
  char text[200];
  describe_matmul(config, text, sizeof text);
  return text;
}

MatmulShape large_shape() {
  MatmulShape shape = {};
  shape.dtype = SE_BF16;
  shape.gated = 1;
  shape.rows = 1024;
  shape.cols = 2048;
  shape.num_experts = 64;
  shape.top_k = 8;
  shape.num_tokens = 4096;
  shape.bulk_ready = 1;
  return shape;
}

// Experts of no, one and several tiles in every width, tiles that end in the middle, and more K than
// all stages hold.
TEST_CASE_FIXTURE(Hopper, "the bits of mma.sync") {
  if (!is_here) return;
  for (const int32_t dtype : {SE_BF16, SE_F16}) {
    for (const bool gated : {true, false}) {
      MatmulSpec spec;
      spec.seed = 5;
      spec.dtype = dtype;
      spec.gated = gated;
      spec.rows = gated ? 136 : 200;
      spec.cols = 592;
      spec.counts = {1, 70, 0, 300};
      spec.x_index = gated ? RowIndex::kToken : RowIndex::kSorted;
      spec.out_index = gated ? RowIndex::kSorted : RowIndex::kSlot;
      spec.slot_weights = !gated;
      spec.bias = dtype == SE_BF16;
      spec.out_f32 = !gated;
      MatmulProblem problem(spec);
      const std::vector<MatmulConfig> configs = wg_configs(problem);
      REQUIRE(configs.size() == 4);
      MatmulShape small = problem.shape();
      small.num_tokens = 1;
      const std::vector<uint8_t> expected =
          problem.run(choose_matmul(small, device_limits()), "mma.sync");
      problem.check_outputs(expected, "mma.sync");
      for (const MatmulConfig& config : configs) {
        const std::string name = text_of(config);
        check_same_bits(problem.run(config, name), expected, name + ": the bits of mma.sync");
      }
    }
  }
}

TEST_CASE("which calls it serves") {
  DeviceLimits hopper = {90, 132, 227 << 10, 228 << 10, 50 << 20};
  const auto is_wg = [](const MatmulShape& shape, const DeviceLimits& limits) {
    return text_of(choose_matmul(shape, limits)).find("wgmma") != std::string::npos;
  };
  for (const int32_t dtype : {SE_BF16, SE_F16, SE_F32}) {
    MatmulShape shape = large_shape();
    shape.dtype = dtype;
    CHECK(is_wg(shape, hopper) == (dtype != SE_F32));
  }
  for (const int32_t capability : {80, 86, 89, 100, 120}) {
    DeviceLimits other = hopper;
    other.compute_capability = capability;
    CHECK_MESSAGE(!is_wg(large_shape(), other), "sm_", capability);
  }
  MatmulShape shape = large_shape();
  shape.bulk_ready = 0;
  CHECK_MESSAGE(!is_wg(shape, hopper), "without maps");
  shape = large_shape();
  shape.batch_invariant = 1;
  CHECK_MESSAGE(!is_wg(shape, hopper), "batch invariant");
  shape = large_shape();
  shape.num_tokens = 192;
  CHECK_MESSAGE(!is_wg(shape, hopper), "24 tokens per expert");
  shape.num_tokens = 200;
  CHECK_MESSAGE(is_wg(shape, hopper), "25 tokens per expert");
  hopper.shared_bytes_per_block = 163 << 10;
  CHECK_MESSAGE(!is_wg(large_shape(), hopper), "shared memory");
}

// Wider as experts get more tokens, and never more than the device holds.
TEST_CASE("widths") {
  const DeviceLimits hopper = {90, 132, 227 << 10, 228 << 10, 50 << 20};
  int32_t last = 0;
  for (int64_t tokens = 200; tokens <= 16384; tokens += 56) {
    MatmulShape shape = large_shape();
    shape.num_tokens = tokens;
    const MatmulConfig config = choose_matmul(shape, hopper);
    CHECK(config.shared_bytes + 4096 <= hopper.shared_bytes_per_block);
    CHECK((config.grid >= 1 && config.grid <= 132));
    if (tokens % 1024 == 200 % 1024) CHECK(config.tile_tokens >= last);
    last = config.tile_tokens;
  }
  CHECK(last == 256);
}

TEST_CASE_FIXTURE(Hopper, "which matrices can be described") {
  if (!is_here) return;
  const DeviceArray<unsigned char> array(4096);
  const unsigned char* memory = array.data();
  const void* gate[] = {memory, nullptr};
  const void* up[] = {memory + 16, nullptr};
  std::vector<unsigned char> maps(2 * kWeightMapBytes);
  WeightMatrices good = {SE_BF16, 2, gate, up, true, 24, 40, 48};
  const auto encodes = [&](const WeightMatrices& matrices) {
    return encode_wg_weight_maps(matrices, maps.data());
  };
  CHECK(encodes(good));
  WeightMatrices bad = good;
  bad.cols = 36;
  CHECK_MESSAGE(!encodes(bad), "K");
  bad = good;
  bad.row_stride = 44;
  CHECK_MESSAGE(!encodes(bad), "rows");
  bad.count = 0;
  CHECK_MESSAGE(!encodes(bad), "rows, by sizes alone");
  bad = good;
  bad.rows = 20;
  CHECK_MESSAGE(!encodes(bad), "gated outputs");
  bad.gated = false;
  CHECK_MESSAGE(encodes(bad), "outputs");
  const void* odd[] = {memory + 8, memory + 40};
  bad = good;
  bad.up = odd;
  CHECK_MESSAGE(!encodes(bad), "begin of up");
  bad = good;
  std::swap(bad.gate, bad.up);
  CHECK_MESSAGE(!encodes(bad), "up before gate");
  const void* same[] = {memory, nullptr};
  bad = good;
  bad.up = same;
  CHECK_MESSAGE(!encodes(bad), "one matrix for both");
  const void* far[] = {
      reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(memory) + (uint64_t{1} << 40)),
      nullptr};
  bad = good;
  bad.up = far;
  CHECK_MESSAGE(!encodes(bad), "too far behind");
}

TEST_CASE_FIXTURE(Hopper, "refused") {
  if (!is_here) return;
  MatmulSpec spec;
  spec.rows = 64;
  spec.cols = 64;
  spec.counts = {40};
  MatmulProblem problem(spec);
  const MatmulConfig config = wg_configs(problem)[1];
  const auto refused = [&](const ExpertMatmulKernelArgs& args, const MatmulConfig& with) {
    return launch_expert_matmul(args, with, nullptr) == cudaErrorInvalidValue;
  };
  ExpertMatmulKernelArgs args = problem.args(config.tile_tokens);
  args.groups[0].weight_maps = nullptr;
  CHECK_MESSAGE(refused(args, config), "no maps");
  args = problem.args(config.tile_tokens);
  args.groups[0].x = static_cast<const char*>(args.groups[0].x) + 2;
  CHECK_MESSAGE(refused(args, config), "odd rows of x");
  args = problem.args(config.tile_tokens);
  MatmulConfig wrong = config;
  wrong.tile_tokens = 64;
  CHECK_MESSAGE(refused(args, wrong), "tiles of another size");
  wrong = config;
  wrong.kernel = 96;
  CHECK_MESSAGE(refused(args, wrong), "a width that there is not");
  wrong = config;
  wrong.shared_bytes -= 1;
  CHECK_MESSAGE(refused(args, wrong), "too little shared memory");
}

#if defined(SIMT_EMULATOR)
// Weights once for each tile of tokens, tokens once for each tile of outputs; no bank conflict.
TEST_CASE_FIXTURE(Hopper, "budgets") {
  for (const bool gated : {true, false}) {
    MatmulSpec spec;
    spec.seed = 91;
    spec.gated = gated;
    spec.rows = 128;
    spec.cols = 320;
    spec.counts = {5, 0, 70};
    MatmulProblem problem(spec);
    for (const MatmulConfig& config : wg_configs(problem)) {
      const std::string name = text_of(config);
      simt::reset_counters();
      problem.run(config, name);
      const simt::Counters counted = simt::counters();
      uint64_t token_tiles = 0;
      uint64_t tokens = 0;
      for (const int64_t count : spec.counts) {
        token_tiles += static_cast<uint64_t>((count + config.tile_tokens - 1) / config.tile_tokens);
        tokens += static_cast<uint64_t>(count);
      }
      const uint64_t row = 2 * static_cast<uint64_t>(spec.cols);
      const uint64_t rows = static_cast<uint64_t>(spec.rows) * (gated ? 2 : 1);
      const uint64_t column_tiles = rows / 128;
      CHECK_MESSAGE(counted.bulk_load_bytes == row * rows * token_tiles, name, ": weights");
      CHECK_MESSAGE(counted.cp_async_bytes == row * tokens * column_tiles, name, ": tokens");
      CHECK_MESSAGE(counted.cp_async_sectors * 32 == counted.cp_async_bytes, name, ": sectors");
      CHECK_MESSAGE(counted.cp_async_bank_conflicts == 0, name, ": no bank conflicts");
      CHECK_MESSAGE(counted.wgmma_products == token_tiles * rows *
                                                  static_cast<uint64_t>(spec.cols) *
                                                  static_cast<uint64_t>(config.tile_tokens),
                    name, ": products");
      CHECK_MESSAGE(counted.mma == 0, name, ": all on wgmma");
    }
  }
}

#endif

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
