// The tensor-core expert matmuls against a double loop over the rounded operands, bit for bit
// against themselves, and (emulated) against their budgets of memory accesses.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/harness.h"
#include "cuda/kernels/sm80/half_expert_matmul_tile.cuh"
#include "cuda/matmul_half_problem.h"
#include "cuda/wg_configs.h"

#if defined(SIMT_EMULATOR)
#include <simt/counters.h>
#endif

namespace native_test {
namespace {

TEST_SUITE_BEGIN("matmul_half");

struct Prepared {
  Prepared() {
    must(sparse_experts::cuda::prepare_expert_matmul(device_limits()), "prepare_expert_matmul");
  }
};

using sparse_experts::cuda::choose_matmul;
using sparse_experts::cuda::describe_matmul;
using sparse_experts::cuda::DeviceLimits;
using sparse_experts::cuda::HalfDecodeTile;
using sparse_experts::cuda::HalfLargeTile;
using sparse_experts::cuda::HalfSmallTile;
using sparse_experts::cuda::kHalfDecode;
using sparse_experts::cuda::kHalfLarge;
using sparse_experts::cuda::kHalfSmall;
using sparse_experts::cuda::launch_expert_matmul;

const std::vector<int64_t> kCounts = {0,  1,  3,  7,  8,   9, 15,  16, 17,
                                      31, 33, 63, 65, 127, 0, 129, 257};

template <typename Tile>
MatmulConfig forced(int32_t kernel, bool gated, int32_t tile_tokens, int32_t split_k, int32_t grid,
                    int32_t stages = 4) {
  MatmulConfig config;
  config.kernel = kernel;
  config.tile_rows = Tile::kRows / split_k / (gated ? 2 : 1);
  config.tile_tokens = tile_tokens;
  config.tile_k = Tile::kBlockK;
  config.stages = stages;
  config.threads = Tile::kThreads;
  config.split_k = split_k;
  config.grid = grid;
  config.shared_bytes = int64_t{stages} * Tile::stage_bytes(tile_tokens, split_k);
  return with_variant(config, SE_BF16);
}

// Every instance, tile size and number of stages there is without a split of K. Few blocks, so that they
// persist.
std::vector<MatmulConfig> unsplit_configs(bool gated) {
  return {forced<HalfDecodeTile>(kHalfDecode, gated, 8, 1, 7),
          forced<HalfDecodeTile>(kHalfDecode, gated, 16, 1, 1000, 6),
          forced<HalfSmallTile>(kHalfSmall, gated, 8, 1, 3, 3),
          forced<HalfSmallTile>(kHalfSmall, gated, 16, 1, 5),
          forced<HalfSmallTile>(kHalfSmall, gated, 32, 1, 2, 6),
          forced<HalfLargeTile>(kHalfLarge, gated, 16, 1, 4, 6),
          forced<HalfLargeTile>(kHalfLarge, gated, 64, 1, 3, 3),
          forced<HalfLargeTile>(kHalfLarge, gated, 128, 1, 2, 4)};
}

std::string name_of(const MatmulSpec& spec, const MatmulConfig& config) {
  char text[200];
  describe_matmul(with_variant(config, spec.dtype), text, sizeof text);
  return std::string(spec.gated ? "gated " : "plain ") + std::to_string(spec.rows) + "x" +
         std::to_string(spec.cols) + ", seed " + std::to_string(spec.seed) + ", " + text;
}

// Runs all configurations, and where they can those on wgmma, which do not split K: right, and the same
// bits.
void check_configs(const MatmulSpec& spec, const std::vector<MatmulConfig>& configs,
                   const std::string& what, bool on_warp_groups = true) {
  MatmulProblem problem(spec);
  std::vector<uint8_t> first;
  for (const MatmulConfig& config : on_warp_groups ? with_warp_groups(configs, problem) : configs) {
    const std::string name = what + ": " + name_of(spec, config);
    const std::vector<uint8_t> out = problem.run(config, name);
    if (first.empty()) {
      first = out;
      problem.check_outputs(out, name);
    }
    check_same_bits(out, first, name + ": same bits as the first configuration");
  }
}

TEST_CASE_FIXTURE(Prepared, "sizes") {
  const int64_t sizes[][2] = {{1, 1},     {8, 17},    {17, 8},    {31, 96},   {96, 31},
                              {160, 176}, {176, 160}, {192, 232}, {232, 192}, {704, 40},
                              {40, 704},  {1407, 33}, {33, 1407}, {2880, 24}, {24, 2880}};
  Random random(11);
  for (const auto& size : sizes) {
    for (bool gated : {true, false}) {
      MatmulSpec spec;
      spec.seed = random.bits();
      spec.dtype = random.below(2) ? SE_BF16 : SE_F16;
      spec.gated = gated;
      spec.rows = size[0];
      spec.cols = size[1];
      spec.out_f32 = random.below(2) != 0;
      for (int i = 0; i < 3; ++i) spec.counts.push_back(random.below(12));
      spec.counts.push_back(20);
      check_configs(spec,
                    {forced<HalfDecodeTile>(kHalfDecode, gated, 8, 1, 5),
                     forced<HalfSmallTile>(kHalfSmall, gated, 32, 1, 3),
                     forced<HalfLargeTile>(kHalfLarge, gated, 64, 1, 3)},
                    "sizes");
    }
  }
}

// Skewed and empty experts, every number of tokens at the borders of fragments and tiles.
TEST_CASE_FIXTURE(Prepared, "counts") {
  for (int32_t dtype : {SE_BF16, SE_F16}) {
    for (bool gated : {true, false}) {
      MatmulSpec spec;
      spec.seed = 21;
      spec.dtype = dtype;
      spec.gated = gated;
      spec.rows = gated ? 40 : 72;
      spec.cols = 72;
      spec.counts = kCounts;
      check_configs(spec, unsplit_configs(gated), "counts");
    }
  }
}

TEST_CASE_FIXTURE(Prepared, "activations") {
  for (int32_t kind = SE_SILU; kind <= SE_IDENTITY; ++kind) {
    for (int variant = 0; variant < 3; ++variant) {
      MatmulSpec spec;
      spec.seed = 31 + 3 * static_cast<uint64_t>(kind) + static_cast<uint64_t>(variant);
      spec.dtype = variant ? SE_F16 : SE_BF16;
      spec.gated = variant != 2;
      spec.rows = 56;
      spec.cols = 64;
      spec.counts = {5, 0, 33};
      spec.out_f32 = true;
      spec.bias = true;
      const bool limited = variant == 1;
      spec.activation = {kind, 1, kind == SE_SILU && limited ? 1.702f : 1.0f, limited ? 1.0f : 0.0f,
                         limited ? 0.7f : 0.0f};
      check_configs(spec,
                    {forced<HalfSmallTile>(kHalfSmall, spec.gated, 16, 1, 3),
                     forced<HalfLargeTile>(kHalfLarge, spec.gated, 64, 1, 3)},
                    "activation " + std::to_string(kind));
    }
  }
}

// Layouts, indices and options in random company.
TEST_CASE_FIXTURE(Prepared, "options") {
  for (uint64_t seed = 1; seed <= 48; ++seed) {
    Random random(1000 + seed);
    MatmulSpec spec;
    spec.seed = seed;
    spec.dtype = random.below(2) ? SE_BF16 : SE_F16;
    spec.gated = random.below(2) != 0;
    spec.rows = 1 + random.below(150);
    spec.cols = 1 + random.below(200);
    if (random.below(2)) spec.cols = (spec.cols + 7) / 8 * 8;
    for (int64_t e = 1 + random.below(5); e > 0; --e) {
      spec.counts.push_back(random.below(3) ? random.below(40) : 0);
    }
    spec.x_index = static_cast<RowIndex>(random.below(3));
    spec.out_index = random.below(2) ? RowIndex::kSlot : RowIndex::kSorted;
    spec.out_f32 = random.below(2) != 0;
    spec.interleaved = random.below(2) != 0;
    spec.padding = random.below(3) == 0 ? 0 : random.below(2) ? 8 : 1 + random.below(11);
    spec.misaligned = random.below(2) ? 0 : random.below(2) ? 8 : 1 + random.below(7);
    spec.bias = random.below(2) != 0;
    spec.slot_weights = random.below(2) != 0;
    spec.activate = random.below(2) != 0;
    if (random.below(5) == 0) {
      spec.no_offsets = true;
      spec.counts = {random.below(60)};
    }
    check_configs(spec, unsplit_configs(spec.gated), "options");
  }
}

// A padding of NaN behind every row and an odd length: K's tail in a 16-byte chunk.
TEST_CASE_FIXTURE(Prepared, "tails") {
  for (int64_t cols : {1, 7, 8, 9, 15, 17, 31, 33, 63, 65, 127, 129, 257}) {
    MatmulSpec spec;
    spec.seed = static_cast<uint64_t>(cols);
    spec.rows = 24;
    spec.cols = cols;
    spec.padding = (cols + 15) / 8 * 8 - cols;  // aligned rows, copied asynchronously
    spec.counts = {3, 17};
    spec.out_f32 = true;
    check_configs(spec, unsplit_configs(true), "tails");
  }
}

// Both groups in one launch, each with its own shape.
TEST_CASE_FIXTURE(Prepared, "two groups") {
  for (bool gated : {true, false}) {
    MatmulSpec routed;
    routed.seed = 41;
    routed.gated = gated;
    routed.rows = 72;
    routed.cols = 64;
    routed.counts = {9, 0, 30, 1, 2};
    routed.num_tokens = 40;
    routed.out_index = RowIndex::kSlot;
    routed.slot_weights = true;
    MatmulSpec shared;
    shared.seed = 42;
    shared.gated = gated;
    shared.rows = gated ? 200 : 33;
    shared.cols = 120;
    shared.counts = {40};
    shared.no_offsets = true;
    shared.x_index = RowIndex::kSorted;
    shared.out_f32 = true;
    MatmulProblem first(routed);
    MatmulProblem second(shared);
    for (const MatmulConfig& config : with_warp_groups(unsplit_configs(gated), first)) {
      const std::string name = "two groups: " + name_of(routed, config);
      ExpertMatmulKernelArgs args = first.args(config.tile_tokens);
      args.groups[1] = second.group(config.tile_tokens);
      args.num_groups = 2;
      if (!synced(launch_expert_matmul(args, config, nullptr), name)) continue;
      const std::vector<uint8_t> first_out = first.outputs(name);
      const std::vector<uint8_t> second_out = second.outputs(name);
      first.check_outputs(first_out, name);
      second.check_outputs(second_out, name + ", shared");
      check_same_bits(first_out, first.run(config, name), name + ": same bits without the other");
      check_same_bits(second_out, second.run(config, name), name + ": and the other way");
    }
  }
}

// Split K: right for every split, and the same bits for every number of tokens and again.
TEST_CASE_FIXTURE(Prepared, "split") {
  for (bool gated : {true, false}) {
    for (int32_t split : {2, 4}) {
      for (int64_t cols : {7, 64, 65, 500, 1000}) {
        MatmulSpec spec;
        spec.seed = static_cast<uint64_t>(51 + split + cols);
        spec.dtype = gated ? SE_BF16 : SE_F16;
        spec.gated = gated;
        spec.rows = 43;
        spec.cols = cols;
        spec.counts = {1, 0, 12, 19};
        spec.bias = true;
        spec.slot_weights = true;
        spec.out_f32 = true;
        spec.padding = cols == 500 ? 4 : 0;
        check_configs(spec,
                      {forced<HalfDecodeTile>(kHalfDecode, gated, 8, split, 3),
                       forced<HalfDecodeTile>(kHalfDecode, gated, 16, split, 100, 6)},
                      "split", false);
      }
    }
  }
}

// A row alone gives the bits that it has in a batch, whatever instance either takes.
TEST_CASE_FIXTURE(Prepared, "alone") {
  MatmulSpec spec;
  spec.seed = 61;
  spec.rows = 100;
  spec.cols = 136;
  spec.counts = {70, 3, 130};
  spec.x_index = RowIndex::kSorted;
  spec.out_f32 = true;
  MatmulProblem batch(spec);
  const std::vector<uint8_t> all =
      batch.run(forced<HalfLargeTile>(kHalfLarge, true, 128, 1, 3), "alone: batch");
  if (all.empty()) return;
  const size_t row_bytes = static_cast<size_t>(spec.rows * 4);
  for (int64_t entry : {0, 1, 69, 70, 72, 73, 74, 150, 202}) {
    for (const MatmulConfig& config : with_warp_groups(unsplit_configs(true), batch)) {
      // The same arrays; only the offsets say that one entry is there.
      ExpertMatmulKernelArgs args = batch.args(config.tile_tokens);
      std::vector<int32_t> offsets(1, 0);
      for (int32_t e = 0; e < 3; ++e)
        offsets.push_back(offsets.back() + (e == batch.entry_expert(entry) ? 1 : 0));
      const DeviceTiles tiles(offsets, config.tile_tokens);
      MatmulGroup& group = args.groups[0];
      tiles.name_in(&group);
      group.num_rows = 1;
      group.x = static_cast<const uint8_t*>(group.x) + entry * group.x_stride * 2;
      DeviceArray<float> out(spec.rows);
      group.out = out.data();
      const std::string name =
          "alone: entry " + std::to_string(entry) + ", " + name_of(spec, config);
      if (!synced(launch_expert_matmul(args, config, nullptr), name)) continue;
      const std::vector<float> row = out.download();
      CHECK_MESSAGE(std::memcmp(row.data(), all.data() + static_cast<size_t>(entry) * row_bytes,
                                row_bytes) == 0,
                    std::string(name), ": the bits of the batch");
    }
  }
}

TEST_CASE_FIXTURE(Prepared, "nothing") {
  MatmulSpec spec;
  spec.rows = 16;
  spec.cols = 16;
  spec.counts = {0, 0, 0};
  spec.num_tokens = 5;
  MatmulProblem empty(spec);
  for (const MatmulConfig& config : with_warp_groups(unsplit_configs(true), empty)) {
    CHECK_MESSAGE(empty.run(config, "empty experts").empty(), "empty experts: no output");
    ExpertMatmulKernelArgs args = empty.args(config.tile_tokens);
    args.groups[0].num_rows = 0;
    CHECK_MESSAGE(synced(launch_expert_matmul(args, config, nullptr), "no rows"), "no rows");
  }
  const MatmulConfig config = forced<HalfLargeTile>(kHalfLarge, true, 128, 1, 3);
  ExpertMatmulKernelArgs args = empty.args(128);
  const auto refused = [&](const ExpertMatmulKernelArgs& bad, const MatmulConfig& with,
                           const std::string& what) {
    CHECK_MESSAGE(launch_expert_matmul(bad, with, nullptr) == cudaErrorInvalidValue, what,
                  ": refused");
  };
  ExpertMatmulKernelArgs bad = args;
  bad.dtype = SE_I32;
  refused(bad, config, "dtype");
  bad = args;
  bad.num_groups = 3;
  refused(bad, config, "three groups");
  bad = args;
  bad.apply_activation = 0;
  refused(bad, config, "gate without an activation");
  bad = args;
  bad.groups[0].out_dtype = SE_F16;
  refused(bad, config, "foreign output");
  MatmulConfig wrong = config;
  wrong.kernel = 9;
  refused(args, wrong, "unknown kernel");
  wrong = config;
  wrong.tile_tokens = 48;
  refused(args, wrong, "odd tile");
  wrong = config;
  wrong.shared_bytes -= 1;
  refused(args, wrong, "too little shared memory");
  wrong = config;
  wrong.split_k = 2;
  refused(args, wrong, "split of the large tile");
}

DeviceLimits limits_of(int32_t capability) {
  DeviceLimits limits;
  limits.compute_capability = capability;
  if (capability == 86) {
    limits.num_multiprocessors = 84;
    limits.shared_bytes_per_block = 99 << 10;
    limits.shared_bytes_per_multiprocessor = 100 << 10;
  } else if (capability == 90) {
    limits.num_multiprocessors = 132;
    limits.shared_bytes_per_block = 227 << 10;
    limits.shared_bytes_per_multiprocessor = 228 << 10;
  }
  return limits;
}

// What choose_matmul says is launchable, and gives right results on a smaller matrix.
TEST_CASE_FIXTURE(Prepared, "choices") {
  struct Model {
    int64_t num_experts, top_k, hidden, intermediate, shared;
  };
  const Model models[] = {{8, 2, 4096, 14336, 0},    {64, 6, 2048, 1408, 2816},
                          {128, 8, 2048, 768, 0},    {32, 4, 2880, 2880, 0},
                          {512, 10, 2048, 512, 512}, {256, 8, 7168, 2048, 2048},
                          {4, 1, 17, 31, 8}};
  std::vector<MatmulConfig> seen[2];
  for (const Model& model : models) {
    for (int32_t capability : {80, 86, 90}) {
      const DeviceLimits limits = limits_of(capability);
      for (int64_t tokens : {0, 1, 2, 7, 8, 9, 16, 17, 32, 33, 64, 65, 100, 128, 256, 1024, 4096}) {
        for (int variant = 0; variant < 4; ++variant) {
          const bool gated = variant % 2 == 0;
          MatmulShape shape = {};
          shape.dtype = SE_BF16;
          shape.gated = gated;
          shape.rows = gated ? model.intermediate : model.hidden;
          shape.cols = gated ? model.hidden : model.intermediate;
          shape.num_experts = model.num_experts;
          shape.top_k = model.top_k;
          shape.num_tokens = tokens;
          shape.shared_rows = model.shared == 0 ? 0 : gated ? model.shared : model.hidden;
          shape.shared_cols = model.shared == 0 ? 0 : gated ? model.hidden : model.shared;
          shape.batch_invariant = variant / 2;
          const MatmulConfig config = choose_matmul(shape, limits);
          const std::string name = "choice: sm_" + std::to_string(capability) + ", " +
                                   std::to_string(tokens) + " tokens, rows " +
                                   std::to_string(shape.rows);
          CHECK_MESSAGE(
              config.shared_bytes + HalfLargeTile::kStaticBytes <= limits.shared_bytes_per_block,
              std::string(name), ": fits the device");
          CHECK_MESSAGE(config.grid >= 1, std::string(name), ": fits the device");
          CHECK_MESSAGE(config.blocks_per_multiprocessor >= 1, std::string(name),
                        ": fits the device");
          CHECK_MESSAGE((config.tile_tokens <= 8 || config.tile_tokens < 2 * tokens),
                        std::string(name), ": no wider than the call");
          CHECK_MESSAGE((shape.batch_invariant == 0 || config.split_k == 1), std::string(name),
                        ": batch invariant");
          MatmulShape other = shape;
          other.num_tokens = tokens == 1 ? 3 : 1;
          const MatmulConfig decode = choose_matmul(other, limits);
          CHECK_MESSAGE((config.kernel != decode.kernel || config.split_k == decode.split_k),
                        std::string(name), ": the split does not follow the tokens");
          bool known = false;
          for (const MatmulConfig& one : seen[gated]) {
            known |= one.kernel == config.kernel && one.tile_tokens == config.tile_tokens &&
                     one.split_k == config.split_k;
          }
          if (!known) seen[gated].push_back(config);
        }
      }
    }
  }
  for (int gated = 0; gated < 2; ++gated) {
    for (const MatmulConfig& config : seen[gated]) {
      MatmulSpec spec;
      spec.seed = 71;
      spec.gated = gated != 0;
      spec.rows = 70;
      spec.cols = 200;
      spec.counts = {2, 40, 0, 9};
      check_configs(spec, {config, config}, "choice", false);
    }
  }
}

// NaN and infinities of the operands reach their own outputs and no other.
TEST_CASE_FIXTURE(Prepared, "not finite") {
  MatmulSpec spec;
  spec.seed = 81;
  spec.rows = 40;
  spec.cols = 48;
  spec.counts = {20};
  spec.x_index = RowIndex::kSorted;
  spec.out_f32 = true;
  MatmulProblem problem(spec);
  const MatmulConfig plain = forced<HalfSmallTile>(kHalfSmall, true, 32, 1, 2);
  const std::vector<uint8_t> clean = problem.run(plain, "not finite: clean");
  for (const MatmulConfig& config : with_warp_groups(unsplit_configs(true), problem)) {
    const std::string name = "not finite: " + name_of(spec, config);
    ExpertMatmulKernelArgs args = problem.args(config.tile_tokens);
    uint8_t* x = static_cast<uint8_t*>(const_cast<void*>(args.groups[0].x));
    const uint16_t nan = 0x7fc0;
    uint16_t kept = 0;
    uint8_t* place = x + (7 * spec.cols + 13) * 2;
    must(cudaMemcpy(&kept, place, 2, cudaMemcpyDeviceToHost), "read");
    must(cudaMemcpy(place, &nan, 2, cudaMemcpyHostToDevice), "write");
    const bool good = synced(launch_expert_matmul(args, config, nullptr), name);
    must(cudaMemcpy(place, &kept, 2, cudaMemcpyHostToDevice), "write");
    if (!good) continue;
    const std::vector<double> out = decode(SE_F32, problem.outputs(name));
    const std::vector<double> expected = decode(SE_F32, clean);
    if (!CHECK_MESSAGE(out.size() == expected.size(), name, ": outputs")) continue;
    Every right;
    for (size_t i = 0; i < out.size(); ++i) {
      if (static_cast<int64_t>(i) / spec.rows == 7) {
        right.that(std::isnan(out[i]));
      } else {
        right.equal(out[i], expected[i]);
      }
    }
    right.check(name + ": NaN in one token");
  }
}

#if defined(SIMT_EMULATOR)
// Bytes and sectors are exact: weights once for each tile of tokens, no bank conflict anywhere.
TEST_CASE_FIXTURE(Prepared, "budgets") {
  for (bool gated : {true, false}) {
    for (const MatmulConfig& config : unsplit_configs(gated)) {
      MatmulSpec spec;
      spec.seed = 91;
      spec.gated = gated;
      spec.rows = 128;
      spec.cols = 320;
      spec.counts = {5, 0, 8, 1, 40};
      MatmulProblem problem(spec);
      const std::string name = "budget: " + name_of(spec, config);
      simt::reset_counters();
      problem.run(config, name);
      const simt::Counters counted = simt::counters();
      uint64_t token_tiles = 0;
      uint64_t tokens = 0;
      for (int64_t count : spec.counts) {
        token_tiles += static_cast<uint64_t>((count + config.tile_tokens - 1) / config.tile_tokens);
        tokens += static_cast<uint64_t>(count);
      }
      const uint64_t row = 2 * static_cast<uint64_t>(spec.cols);
      const uint64_t rows = static_cast<uint64_t>(spec.rows);
      const uint64_t column_tiles = rows / static_cast<uint64_t>(config.tile_rows);
      const uint64_t bytes = row * (rows * (gated ? 2 : 1) * token_tiles + tokens * column_tiles);
      CHECK_MESSAGE(counted.cp_async_bytes == bytes, std::string(name), ": ",
                    counted.cp_async_bytes, " bytes copied, ", bytes, " needed");
      CHECK_MESSAGE(counted.cp_async_sectors * 32 == bytes, std::string(name), ": whole sectors");
      CHECK_MESSAGE(counted.cp_async_bank_conflicts == 0, std::string(name),
                    ": copies without bank conflicts");
      CHECK_MESSAGE(counted.ldmatrix_bank_conflicts == 0, std::string(name),
                    ": ldmatrix without bank conflicts");
      CHECK_MESSAGE(counted.ldmatrix > 0, std::string(name), ": tensor cores");
      CHECK_MESSAGE(counted.mma > 0, std::string(name), ": tensor cores");
    }
  }
}

// One token, as in decode: every active expert's weights are read exactly once.
TEST_CASE_FIXTURE(Prepared, "decode bytes") {
  for (int32_t split : {1, 2, 4}) {
    MatmulSpec spec;
    spec.seed = 95;
    spec.rows = 96;
    spec.cols = 512;
    spec.counts = {1, 0, 1, 0, 1};
    MatmulProblem problem(spec);
    const MatmulConfig config = forced<HalfDecodeTile>(kHalfDecode, true, 8, split, 1000);
    const std::string name = "decode bytes: " + name_of(spec, config);
    simt::reset_counters();
    problem.run(config, name);
    const simt::Counters counted = simt::counters();
    const uint64_t row = 2 * static_cast<uint64_t>(spec.cols);
    const uint64_t tiles = static_cast<uint64_t>(spec.rows / config.tile_rows);
    CHECK_MESSAGE(
        counted.cp_async_bytes == 3 * row * (2 * static_cast<uint64_t>(spec.rows) + tiles),
        std::string(name), ": weights once, the token once for each block");
    CHECK_MESSAGE(counted.cp_async_bank_conflicts == 0, std::string(name), ": no bank conflicts");
    CHECK_MESSAGE(counted.ldmatrix_bank_conflicts == 0, std::string(name), ": no bank conflicts");
  }
}
#endif

// The table of variants: every dtype has a row on every device that is supported, and a row runs
// its own dtype alone.
TEST_CASE_FIXTURE(Prepared, "variants") {
  using namespace sparse_experts::cuda;
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    const std::string name = "variants: dtype " + std::to_string(dtype);
    MatmulShape shape = {};
    shape.dtype = dtype;
    shape.rows = shape.cols = 256;
    shape.num_experts = shape.num_tokens = shape.top_k = 1;
    DeviceLimits limits;
    for (const int32_t capability : {80, 86, 89, 90, 100, 120}) {
      limits.compute_capability = capability;
      const MatmulConfig config = choose_matmul(shape, limits);
      const MatmulVariant* variant = matmul_variant(config.variant);
      if (CHECK_MESSAGE(variant != nullptr, name, ": has a row"))
        CHECK_MESSAGE(variant->activation == dtype, name, ": has a row");
    }
    limits.compute_capability = 75;
    CHECK_MESSAGE(choose_matmul(shape, limits).variant == -1, name, ": not on older devices");

    MatmulSpec spec;
    spec.rows = spec.cols = 64;
    spec.counts = {1};
    MatmulProblem problem(spec);  // bf16
    const MatmulConfig config = choose_matmul(shape, {});
    if (dtype != SE_BF16) {
      CHECK_MESSAGE(launch_expert_matmul(problem.args(8), config, nullptr) == cudaErrorInvalidValue,
                    name, ": another dtype's row is refused");
    }
  }
  MatmulSpec spec;
  spec.rows = spec.cols = 64;
  spec.counts = {1};
  MatmulProblem problem(spec);
  CHECK_MESSAGE((launch_expert_matmul(problem.args(8), {}, nullptr) == cudaErrorInvalidValue),
                "variants: a configuration of no row is refused");
  for (const KernelCell& cell : kernel_cells())
    CHECK_MESSAGE(!cell.kernels.empty(), "variants: ", cell.op, " ", cell.dtype, " names kernels");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
