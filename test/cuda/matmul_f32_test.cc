// The grouped f32 matmul against a double-precision loop: every option, awkward sizes and routings,
// misaligned matrices, and the promise that no grid, neighbour or tile with the same split of K
// changes a bit of a row.
#include <algorithm>

#include "cuda/context.h"
#include "cuda/matmul_f32_problem.h"

#if defined(SIMT_EMULATOR)
#include <simt/counters.h>
#endif

namespace native_test {
namespace {

TEST_SUITE_BEGIN("matmul_f32");

using namespace matmul_f32;
using sparse_experts::cuda::choose_f32_expert_matmul;
using sparse_experts::cuda::DeviceLimits;
using sparse_experts::cuda::ExpertMatmulKernelArgs;
using sparse_experts::cuda::MatmulConfig;
using sparse_experts::cuda::MatmulShape;

struct Kind {
  int32_t tile_tokens, split_k;
};
constexpr Kind kTileKinds[] = {{8, 1}, {32, 1}, {64, 1}, {8, 2}, {8, 4}};
// One chain of up to 2880 roundings per output.
constexpr double kBound = 3e-6;

std::string name_of(const Kind& kind) {
  return "tiles of " + std::to_string(kind.tile_tokens) +
         (kind.split_k > 1 ? ", K in " + std::to_string(kind.split_k) : "");
}

// A tile of 8, 32 or 64 tokens, as the choice makes it. Few rows and a long K are split.
MatmulConfig config_of(const DeviceLimits& limits, const Kind& kind, bool gated) {
  MatmulShape shape = {};
  shape.dtype = SE_F32;
  shape.gated = gated ? 1 : 0;
  shape.rows = kind.split_k > 1 ? 1 : 1 << 20;
  shape.cols = kind.split_k == 2 ? 128 : 2048;
  shape.num_experts = 1;
  shape.top_k = 1;
  shape.num_tokens = kind.tile_tokens == 8 ? 1 : kind.tile_tokens == 32 ? 20 : 4096;
  return choose_f32_expert_matmul(shape, limits);
}

// Outputs that should be there are near the expected ones; all else still holds the poison.
void check_outputs(const std::vector<float>& out, const std::vector<double>& expected,
                   const std::string& what) {
  if (!CHECK_MESSAGE(out.size() == expected.size(), what, ": has a result")) return;
  std::vector<double> there, wanted;
  Every untouched;
  for (size_t i = 0; i < out.size(); ++i) {
    if (std::isnan(expected[i])) {
      uint32_t bits;
      std::memcpy(&bits, &out[i], 4);
      untouched.equal(bits, 0xFFFFFFFFu);
    } else {
      there.push_back(static_cast<double>(out[i]));
      wanted.push_back(expected[i]);
    }
  }
  check_close(there, wanted, kBound, what);
  untouched.check(what + ": writes nothing else");
}

void run_case(const DeviceLimits& limits, const Case& c, uint64_t seed) {
  Problem problem(c, seed);
  const Lists lists = sorted(problem.ids(), c.experts);
  problem.poison_unlisted(lists);
  const std::vector<double> expected = problem.expected(lists);
  const std::vector<double> expected_shared = problem.expected_shared();
  Outputs whole;  // K in one part
  for (const Kind& kind : kTileKinds) {
    const std::string what = std::string(c.name) + ", " + name_of(kind);
    MatmulConfig config = config_of(limits, kind, c.gated);
    CHECK_MESSAGE(config.tile_tokens == kind.tile_tokens, what, ": is what was chosen");
    CHECK_MESSAGE(config.split_k == kind.split_k, what, ": is what was chosen");
    // Every block has many tiles, of few as of many tokens.
    config.grid = kind.tile_tokens == 32 || kind.split_k == 4 ? 3 : 1000;
    const Outputs out = problem.run(lists, config, what);
    if (kind.split_k == 1 && !whole.routed.empty()) {
      check_same_bits(out.routed, whole.routed, what + ": same bits");
      check_same_bits(out.shared, whole.shared, what + ": same bits, shared");
      continue;
    }
    check_outputs(out.routed, expected, what);
    check_outputs(out.shared, expected_shared, what + ", shared");
    if (kind.split_k == 1) whole = out;
  }
}

TEST_CASE("options") {
  const DeviceLimits& limits = current().limits;
  uint64_t seed = 100;
  Case c = {"plain", 4, 9, 2, 96, 96};
  run_case(limits, c, ++seed);
  for (const int32_t kind :
       {SE_SILU, SE_GELU, SE_GELU_TANH, SE_RELU, SE_RELU2, SE_IDENTITY, SE_SITU}) {
    for (const bool gated : {false, true}) {
      const std::string name = "activation " + std::to_string(kind) + (gated ? " gated" : "");
      Case a = {name.c_str(), 3, 7, 2, 31, 40};
      a.gated = gated;
      a.activation = kind;
      a.bias = gated;
      run_case(limits, a, ++seed);
    }
  }
  Case limited = {"gpt-oss: alpha, limit, offset, interleaved biases", 4, 8, 2, 48, 64, true};
  limited.activation = SE_SILU;
  limited.alpha = 1.702f;
  limited.limit = 0.7f;
  limited.up_offset = 1;
  limited.bias = true;
  limited.bias_stride = 2;
  run_case(limits, limited, ++seed);

  Case down = {"down: sorted rows in, slots out, weights and bias", 5, 33, 2, 65, 96};
  down.x_index = RowIndex::kSorted;
  down.slot_weights = true;
  down.bias = true;
  run_case(limits, down, ++seed);
  Case slot = {"slot rows in, sorted rows out", 5, 17, 3, 33, 24};
  slot.x_index = RowIndex::kSlot;
  slot.out_index = RowIndex::kSorted;
  slot.slot_weights = true;
  run_case(limits, slot, ++seed);

  Case shared = {"with a shared expert", 4, 33, 2, 64, 48, true};
  shared.activation = SE_SILU;
  shared.shared_rows = 150;
  shared.shared_cols = 48;
  run_case(limits, shared, ++seed);
  Case down_shared = {"down with a shared expert", 4, 31, 2, 48, 64};
  down_shared.x_index = RowIndex::kSorted;
  down_shared.shared_rows = 48;
  down_shared.shared_cols = 150;
  run_case(limits, down_shared, ++seed);
}

TEST_CASE("sizes") {
  const DeviceLimits& limits = current().limits;
  uint64_t seed = 200;
  const int64_t sizes[][2] = {{1, 1},     {8, 17},    {17, 8},   {31, 160},  {96, 31},
                              {160, 192}, {192, 704}, {704, 96}, {1407, 17}, {17, 1407},
                              {2880, 31}, {31, 2880}, {65, 1},   {129, 33}};
  for (const auto& size : sizes) {
    const std::string name = std::to_string(size[0]) + " x " + std::to_string(size[1]);
    Case c = {name.c_str(), 3, 5, 2, size[0], size[1]};
    c.out_pad = 3;
    run_case(limits, c, ++seed);
    c.gated = true;
    c.activation = SE_SILU;
    c.name = "gated";
    if (size[0] * size[1] < 70000) run_case(limits, c, ++seed);
  }
  for (const int64_t tokens : {1, 7, 8, 9, 16, 17, 31, 33, 64, 65, 130}) {
    const std::string name = std::to_string(tokens) + " tokens to one expert";
    Case c = {name.c_str(), 3, tokens, 1, 40, 36, tokens % 2 == 0};
    c.routing = Routing::kOneExpert;
    run_case(limits, c, ++seed);
  }
}

TEST_CASE("routings") {
  const DeviceLimits& limits = current().limits;
  uint64_t seed = 300;
  for (const Routing routing : {Routing::kUniform, Routing::kSkewed, Routing::kOneExpert,
                                Routing::kHalfEmpty, Routing::kOneEach}) {
    const std::string name = "routing " + std::to_string(static_cast<int>(routing));
    Case c = {name.c_str(), 7, 65, 2, 24, 20, true, routing};
    c.activation = SE_SILU;
    run_case(limits, c, ++seed);
  }
  Case many = {"150 experts", 150, 130, 1, 9, 12};
  run_case(limits, many, ++seed);
  Case more = {"1100 experts", 1100, 65, 2, 5, 8};
  run_case(limits, more, ++seed);

  // Nobody has tokens.
  Case none = {"no slot listed", 3, 4, 2, 8, 8};
  Problem problem(none, ++seed);
  const Lists lists = sorted(std::vector<int32_t>(8, -1), 3);
  for (const Kind& kind : kTileKinds) {
    const Outputs out = problem.run(lists, config_of(limits, kind, false), none.name);
    check_poison(out.routed, 0, out.routed.size(), none.name + (", " + name_of(kind)));
  }
}

TEST_CASE("alignment") {
  const DeviceLimits& limits = current().limits;
  uint64_t seed = 400;
  // {weight_pad, weight_shift, x_pad, x_shift}; cols 36 is a multiple of 4.
  const int64_t layouts[][4] = {{0, 0, 0, 0}, {1, 0, 0, 0}, {4, 0, 0, 0}, {0, 1, 0, 0},
                                {0, 2, 4, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}, {3, 3, 2, 3}};
  for (const auto& layout : layouts) {
    Case c = {"alignment", 4, 33, 2, 40, 36, true};
    const std::string name = "pads and shifts " + std::to_string(layout[0]) + " " +
                             std::to_string(layout[1]) + " " + std::to_string(layout[2]) + " " +
                             std::to_string(layout[3]);
    c.name = name.c_str();
    c.activation = SE_SILU;
    c.weight_pad = layout[0];
    c.weight_shift = layout[1];
    c.x_pad = layout[2];
    c.x_shift = layout[3];
    run_case(limits, c, ++seed);
    c.cols = 35;  // an aligned row that ends within 16 bytes, or none
    c.weight_pad += 1;
    c.x_pad += 1;
    run_case(limits, c, ++seed);
  }
}

// A row's bits: again, alone, beside other tokens, beside a row of NaN. `kinds` split K alike; the
// first runs them all together.
void check_invariance(const DeviceLimits& limits, const std::vector<Kind>& kinds) {
  Case c = {"invariance", 5, 70, 2, 40, 100, true, Routing::kSkewed};
  c.activation = SE_GELU_TANH;
  c.slot_weights = true;
  c.bias = true;
  Problem problem(c, 500);
  const std::vector<int32_t> ids = problem.ids();
  const Lists all = sorted(ids, c.experts);
  const MatmulConfig together = config_of(limits, kinds[0], true);
  const std::string batch = "invariance, " + name_of(kinds[0]);
  const std::vector<float> out = problem.run(all, together, batch).routed;
  check_same_bits(out, problem.run(all, together, batch).routed, batch + ": again, same bits");

  const auto row_bits_same = [&](const std::vector<float>& other, int64_t token) {
    const size_t first = static_cast<size_t>(token * c.top_k * problem.out_stride());
    const size_t count = static_cast<size_t>(c.top_k * problem.out_stride());
    return other.size() == out.size() &&
           std::memcmp(other.data() + first, out.data() + first, count * sizeof(float)) == 0;
  };
  for (const int64_t token : {0, 1, 33, 69}) {
    std::vector<int32_t> alone(ids.size(), -1);
    std::copy_n(ids.begin() + token * c.top_k, c.top_k, alone.begin() + token * c.top_k);
    for (const Kind& kind : kinds) {
      const std::vector<float> other =
          problem.run(sorted(alone, c.experts), config_of(limits, kind, true), "alone").routed;
      CHECK_MESSAGE(row_bits_same(other, token), std::string(batch), ": token ", token, " alone, ",
                    std::string(name_of(kind)));
    }
  }
  problem.x_row(1)[5] = std::nanf("");
  problem.x_row(1)[6] = INFINITY;
  const std::vector<float> beside = problem.run(all, together, "beside NaN").routed;
  Every same;
  for (int64_t token = 0; token < c.tokens; ++token)
    same.that((token == 1 || row_bits_same(beside, token)));
  same.check(batch + ": beside a row that is not finite");
  Every nan;
  for (int64_t slot = 2; slot < 4; ++slot) {
    if (ids[static_cast<size_t>(slot)] < 0) continue;
    for (int64_t r = 0; r < c.rows; ++r)
      nan.that(std::isnan(beside[static_cast<size_t>(slot * problem.out_stride() + r)]));
  }
  nan.check(batch + ": a row that is not finite gives NaN");
}

TEST_CASE("invariance") {
  const DeviceLimits& limits = current().limits;
  check_invariance(limits, {{64, 1}, {8, 1}, {32, 1}});
  check_invariance(limits, {{8, 2}});
  check_invariance(limits, {{8, 4}});
}

// Parts are columns 32 i … 32 i + 31 in turn, each a chain of its own, added in rising order: in
// any other order 2^24 and the ones come to something else.
TEST_CASE("order of parts") {
  const DeviceLimits& limits = current().limits;
  constexpr float kBig = 16777216.0f;  // 2^24 + 1 is rounded to 2^24
  struct Sum {
    Kind kind;
    std::vector<std::pair<int64_t, float>> x;  // column, value
    float expected;
  };
  const Sum sums[] = {
      {{8, 1}, {{0, kBig}, {32, 1}, {64, 1}}, kBig},
      {{32, 1}, {{0, kBig}, {32, 1}, {64, 1}}, kBig},
      {{64, 1}, {{0, kBig}, {32, 1}, {64, 1}}, kBig},
      {{8, 2}, {{0, kBig}, {32, 1}, {96, 1}}, kBig + 2},
      {{8, 2}, {{0, kBig}, {64, 1}, {128, 1}}, kBig},
      // Falling: 3. As one chain: 1.
      {{8, 4}, {{0, kBig}, {32, 1}, {64, 1}, {96, -kBig}, {192, 1}}, 2},
      {{8, 4}, {{0, kBig}, {31, 1}, {128, 1}}, kBig},
  };
  Case c = {"order of parts", 1, 1, 1, 3, 200, false, Routing::kOneEach};
  for (const Sum& sum : sums) {
    Problem problem(c, 650);
    problem.set_all(1, 0);
    for (const auto& [column, value] : sum.x) problem.x_row(0)[column] = value;
    const std::vector<float> out =
        problem.run(sorted(problem.ids(), 1), config_of(limits, sum.kind, false), c.name).routed;
    check_equal(out, std::vector<float>(3, sum.expected),
                std::string(c.name) + ": " + name_of(sum.kind));
  }
}

// K is split where one token leaves multiprocessors idle, in as many parts for every small call.
void test_choice_of_split(const DeviceLimits& limits) {
  MatmulShape shape = {};
  shape.dtype = SE_F32;
  shape.num_experts = 8;
  shape.cols = 4096;
  const auto split_of = [&](int64_t tokens, int64_t rows, int64_t top_k) {
    shape.num_tokens = tokens;
    shape.rows = rows;
    shape.top_k = top_k;
    return choose_f32_expert_matmul(shape, limits).split_k;
  };
  const int64_t sms = limits.num_multiprocessors;
  for (const int32_t gated : {0, 1}) {
    shape.gated = gated;
    const int64_t columns = gated != 0 ? 32 : 64;
    const std::string name = gated != 0 ? "split, gated: " : "split: ";
    // Tiles of a token without a split, in halves of a multiprocessor.
    const auto rows_of = [&](int64_t halves) { return halves * sms / 2 * columns; };
    CHECK_MESSAGE(split_of(1, rows_of(3), 1) == 1, std::string(name), "enough tiles");
    CHECK_MESSAGE(split_of(1, rows_of(3) - columns, 1) == 2, std::string(name), "one tile too few");
    CHECK_MESSAGE(split_of(1, rows_of(3) - columns, 2) == 1, std::string(name),
                  "two experts fill the device");
    CHECK_MESSAGE(split_of(1, rows_of(3) / 2 - columns, 1) == 4, std::string(name),
                  "less than half");
    CHECK_MESSAGE(split_of(1, 1, 1) == 4, std::string(name), "no more than four");
    for (const int64_t tokens : {2, 5, 8})
      CHECK_MESSAGE(split_of(tokens, 1, 1) == 4, std::string(name),
                    "the number of tokens does not enter");
    CHECK_MESSAGE(split_of(9, 1, 1) == 4, std::string(name), "two tokens to an expert");
    CHECK_MESSAGE(split_of(64, 1, 1) == 1, std::string(name), "never with larger tiles");
    shape.cols = 127;
    CHECK_MESSAGE(split_of(1, 1, 1) == 1, std::string(name), "K too short");
    shape.cols = 255;
    CHECK_MESSAGE(split_of(1, 1, 1) == 2, std::string(name), "K too short for four");
    shape.cols = 4096;
    shape.batch_invariant = 1;
    CHECK_MESSAGE(split_of(1, 1, 1) == 1, std::string(name), "never where batches must not differ");
    shape.batch_invariant = 0;
  }
}

TEST_CASE("choice") {
  const DeviceLimits& limits = current().limits;
  int32_t last = 0;
  Every rises;
  Every sound;
  for (int64_t tokens = 1; tokens <= 16384; tokens += 1 + tokens / 8) {
    MatmulShape shape = {};
    shape.dtype = SE_F32;
    shape.gated = 1;
    shape.rows = 1408;
    shape.cols = 2048;
    shape.num_experts = 64;
    shape.top_k = 6;
    shape.num_tokens = tokens;
    const MatmulConfig config = choose_f32_expert_matmul(shape, limits);
    rises.that(config.tile_tokens >= last);
    last = config.tile_tokens;
    sound.that(config.grid >= limits.num_multiprocessors && config.split_k == 1 &&
               config.shared_bytes <= limits.shared_bytes_per_block && config.tile_rows > 0 &&
               config.blocks_per_multiprocessor > 0);
    shape.batch_invariant = 1;
    sound.equal(choose_f32_expert_matmul(shape, limits).tile_tokens, config.tile_tokens);
  }
  test_choice_of_split(limits);
  rises.check("choice: larger tiles for more tokens");
  CHECK_MESSAGE(last == 64, "choice: larger tiles for more tokens");
  sound.check("choice: within the device's limits");

  ExpertMatmulKernelArgs args = {};
  args.dtype = SE_F32;
  MatmulConfig config = config_of(limits, {8, 1}, false);
  CHECK_MESSAGE(launch_f32_expert_matmul(args, config, nullptr) == cudaSuccess,
                "choice: nothing to launch");
  config.tile_tokens = 7;
  CHECK_MESSAGE(launch_f32_expert_matmul(args, config, nullptr) == cudaErrorInvalidValue,
                "choice: no such tile is refused");
  for (const Kind& kind : {Kind{8, 3}, Kind{8, 8}, Kind{32, 2}}) {
    config.tile_tokens = kind.tile_tokens;
    config.split_k = kind.split_k;
    CHECK_MESSAGE(launch_f32_expert_matmul(args, config, nullptr) == cudaErrorInvalidValue,
                  "choice: no such split is refused: ", std::string(name_of(kind)));
  }
}

// A product that underflows to -0, with and without zeros behind it: K is padded to 16, 32, 64 or
// 128, as the shape of the tile has it.
TEST_CASE("signed zero") {
  const DeviceLimits& limits = current().limits;
  Case c = {"signed zero", 1, 2, 1, 8, 16};
  c.routing = Routing::kOneEach;
  Problem problem(c, 600);
  problem.set_all(-1e-30f, 1e-30f);
  const Lists lists = sorted(problem.ids(), c.experts);
  for (const Kind& kind : kTileKinds) {
    const std::vector<float> out =
        problem.run(lists, config_of(limits, kind, false), c.name).routed;
    check_same_bits(out, std::vector<float>(16, 0.0f), "signed zero: +0 with " + name_of(kind));
  }
}

#if defined(SIMT_EMULATOR)
// Each weight and each token row comes from memory once per tile, in whole sectors, and meets no
// bank conflict on its way into shared memory.
TEST_CASE("budget") {
  const DeviceLimits& limits = current().limits;
  for (const Kind& kind : kTileKinds) {
    for (const int64_t tokens : {int64_t{1}, static_cast<int64_t>(kind.tile_tokens)}) {
      const std::string what = "budget: " + std::to_string(tokens) + " tokens, " + name_of(kind);
      Case c = {"budget", 1, tokens, 1, 64, 96, true, Routing::kOneEach};
      c.activation = SE_SILU;
      Problem problem(c, 700);
      const MatmulConfig config = config_of(limits, kind, true);
      simt::reset_counters();
      problem.run(sorted(problem.ids(), 1), config, what);
      const simt::Counters counted = simt::counters("f32_expert_matmul");
      const uint64_t column_tiles = static_cast<uint64_t>(c.rows / config.tile_rows);
      const uint64_t bytes =
          static_cast<uint64_t>(2 * c.rows * c.cols + tokens * c.cols * column_tiles) * 4;
      CHECK_MESSAGE(counted.launches == 1, what, ": one launch");
      CHECK_MESSAGE(counted.cp_async_bytes == bytes, what, ": ", counted.cp_async_bytes,
                    " bytes copied, expected ", bytes);
      CHECK_MESSAGE(counted.cp_async_sectors * 32 == bytes, what, ": whole sectors");
      CHECK_MESSAGE(counted.cp_async_bank_conflicts == 0, what, ": no bank conflicts");
    }
  }
}
#endif

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
