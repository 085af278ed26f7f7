// The expert matmuls by stored codes: every code read back, every kind of format against a double loop,
// the bits of a row whatever is beside it, and what their layout takes.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/matrix_format.h"
#include "cuda/context.h"
#include "cuda/harness.h"
#include "cuda/layouts/stored_layout.h"
#include "cuda/stored_problem.h"
#include "cuda/variants.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("stored_matmul");

using sparse_experts::cuda::list_matmul_configs;
using sparse_experts::cuda::MatmulConfig;

struct Prepared {
  Prepared() {
    must(sparse_experts::cuda::prepare_expert_matmul(device_limits()), "prepare_expert_matmul");
  }
};

const char* dtype_text(int32_t dtype) { return dtype == SE_F16 ? " f16 " : " bf16 "; }

// Those of checkpoints, and blocks of rows that units cut: fp8's, where gate and up are halves.
std::vector<QuantisedKind> kinds_of(int64_t rows, int64_t cols) {
  std::vector<QuantisedKind> kinds = quantised_kinds(rows, cols);
  for (const int64_t block_rows : {12, 4}) {
    QuantisedKind kind = kinds[0];
    kind.name = "fp8 " + std::to_string(block_rows) + "x128";
    kind.format.block_rows = block_rows;
    kind.format.block_cols = 128;
    kinds.push_back(kind);
  }
  return kinds;
}

// One instance of each width, with the fewest and the most stages.
std::vector<MatmulConfig> some_configs(const StoredProblem& problem) {
  std::vector<MatmulConfig> some;
  for (const MatmulConfig& config : list_matmul_configs(problem.shape(), current().limits)) {
    const bool is_new = some.empty() || some.back().tile_tokens != config.tile_tokens;
    if (is_new || config.stages == 2) some.push_back(config);
  }
  return some;
}

// A product with a row that is 1 in one column is a weight, and nothing is added to it but zeros. A NaN
// in a row of weights leaves no product of that row finite. A weight that is infinite because its product
// with the scale overflows need not reach the products of other columns.
void check_codes(const StoredSpec& spec, const std::string& what) {
  StoredProblem problem(spec);
  const std::vector<float> out = problem.run(what);
  if (out.empty()) return;
  const std::vector<float>& weights = problem.up_weights(0);
  // A quotient by the matrix's own scale is a product with its reciprocal.
  const bool is_divided = (spec.format.flags & SE_FORMAT_GLOBAL_DIVIDES) != 0;
  const double allowed = is_divided ? 3e-7 : 0;
  Every same;
  for (int64_t row = 0; row < spec.rows; ++row) {
    const float* of_row = weights.data() + row * spec.cols;
    bool has_nan = false;
    bool has_infinity = false;
    for (int64_t col = 0; col < spec.cols; ++col) {
      has_nan = has_nan || std::isnan(of_row[col]);
      has_infinity = has_infinity || std::isinf(of_row[col]);
    }
    for (int64_t col = 0; col < spec.cols; ++col) {
      const double got = static_cast<double>(out[static_cast<size_t>(col * spec.rows + row)]);
      const double weight = static_cast<double>(of_row[col]);
      if (has_nan || std::isinf(weight)) {
        same.that(!std::isfinite(got));
      } else if (has_infinity && !std::isfinite(got)) {
        same.that(true);
      } else {
        same.near(got, weight, allowed * std::fabs(weight));
      }
    }
  }
  same.check(what);
}

TEST_CASE_FIXTURE(Prepared, "every code of every kind is read back") {
  constexpr int64_t kRows = 43;
  constexpr int64_t kCols = 328;
  for (const QuantisedKind& kind : kinds_of(kRows, kCols)) {
    for (const int32_t dtype : {SE_BF16, SE_F16}) {
      for (const Scales scales : {Scales::kUsual, Scales::kAnyInRows}) {
        StoredSpec spec;
        spec.dtype = dtype;
        spec.rows = kRows;
        spec.cols = kCols;
        spec.format = kind.format;
        spec.counts.push_back(kCols);
        spec.one_hot = true;
        spec.scales = scales;
        check_codes(spec, kind.name + dtype_text(dtype) +
                              (scales == Scales::kUsual ? "" : "with scales of all sorts"));
        if (!is_first_schedule()) break;
      }
    }
  }
}

TEST_CASE_FIXTURE(Prepared, "every kind against a double loop, the same bits by every tile") {
  constexpr int64_t kRows = 72;
  int64_t cols = 24;
  const size_t num_kinds = kinds_of(1, 1).size();
  for (size_t i = 0; i < num_kinds; ++i) {
    // All lengths of a last chunk, and of a last group.
    cols = cols > 700 ? 24 : cols + 88;
    const QuantisedKind kind = kinds_of(kRows, cols)[i];
    StoredSpec spec;
    spec.dtype = i % 2 == 0 ? SE_BF16 : SE_F16;
    spec.gated = i % 3 != 0;
    spec.rows = kRows;
    spec.cols = cols;
    spec.format = kind.format;
    for (const int64_t count : {3, 0, 1, 9, 67, 0}) spec.counts.push_back(count);
    spec.misaligned = i % 4 == 3 ? 1 : 0;
    spec.seed = 100 + i;
    StoredProblem problem(spec);
    std::vector<float> first;
    for (const MatmulConfig& config : some_configs(problem)) {
      const std::string what = kind.name + dtype_text(spec.dtype) + std::to_string(cols) +
                               " columns, tiles of " + std::to_string(config.tile_tokens) + ", " +
                               std::to_string(config.stages) + " stages";
      const std::vector<float> out = problem.run(config, what);
      if (out.empty()) return;
      if (first.empty()) {
        first = out;
        problem.check_outputs(out, what);
      }
      check_same_bits(out, first, what + ": the bits of the first");
    }
  }
}

TEST_CASE_FIXTURE(Prepared, "a row alone has the bits that it has in a batch") {
  for (const size_t i : {size_t{2}, size_t{7}, size_t{13}, size_t{18}, size_t{30}}) {
    constexpr int64_t kCols = 360;
    const QuantisedKind kind = quantised_kinds(40, kCols)[i];
    StoredSpec spec;
    spec.rows = 40;
    spec.cols = kCols;
    spec.format = kind.format;
    spec.counts.push_back(130);
    StoredProblem problem(spec);
    const std::vector<float> whole = problem.run(kind.name);
    if (whole.empty()) return;
    for (const int64_t count : {1, 2, 8, 9, 13, 17, 33, 40}) {
      problem.keep_last(count);
      const std::vector<float> out = problem.run(kind.name);
      const std::vector<float> of_batch(whole.end() - count * spec.rows, whole.end());
      check_same_bits(out, of_batch,
                      kind.name + ", the last " + std::to_string(count) + " of 130 rows");
      problem.keep_last(130);
    }
  }
}

// What checkpoints store for a weight, and at most 2 % more.
TEST_CASE("codes take what they take in a file") {
  constexpr int64_t kRows = 1536;
  constexpr int64_t kCols = 2048;
  struct Stored {
    const char* name;
    double bits;
  };
  const Stored stored[] = {{"fp8 per channel", 8 + 32.0 / kCols},
                           {"mxfp8", 8.25},
                           {"mxfp4", 4.25},
                           {"nvfp4", 4.5},
                           {"int4 f16/32", 4.5},
                           {"int4 bf16/128", 4.125},
                           {"int4 f16/64 and zeros", 4.3125},
                           {"q4_1", 5},
                           {"iq4_nl", 4.5},
                           {"q8_0", 8.5},
                           {"int8 per channel", 8 + 32.0 / kCols},
                           {"fp8 128x128", 8 + 32.0 / (128 * 128)},
                           {"fp8 per matrix", 8}};
  for (const Stored& of : stored) {
    bool is_found = false;
    for (const QuantisedKind& kind : quantised_kinds(kRows, kCols)) {
      if (kind.name != of.name) continue;
      is_found = true;
      const auto bytes =
          static_cast<double>(sparse_experts::cuda::stored_bytes(kRows, kCols, kind.format));
      const double bits = 8 * bytes / static_cast<double>(kRows * kCols);
      CHECK_MESSAGE(bits <= 1.02 * of.bits, of.name, ": ", bits, " bits per weight, stored ",
                    of.bits);
    }
    CHECK_MESSAGE(is_found, of.name);
  }
}

TEST_CASE("rows that come in pieces lie as rows that come at once") {
  Random random(5);
  for (const QuantisedKind& kind : kinds_of(45, 200)) {
    const QuantisedMatrix matrix(kind.format, 45, 200, Scales::kUsual, &random);
    const std::vector<uint8_t> at_once = packed_matrix(matrix, 45);
    CHECK_MESSAGE(!at_once.empty(), kind.name);
    check_same_bits(packed_matrix(matrix, 8), at_once, kind.name);
    check_same_bits(packed_matrix(matrix, 24), at_once, kind.name);
  }
}

TEST_CASE("what is held in place: 16-bit arithmetic, columns in order") {
  using sparse_experts::cuda::holds_codes;
  for (const QuantisedKind& kind : quantised_kinds(64, 256)) {
    CHECK_MESSAGE(holds_codes(SE_BF16, kind.format), kind.name);
    CHECK_MESSAGE(holds_codes(SE_F16, kind.format), kind.name);
    CHECK_MESSAGE(!holds_codes(SE_F32, kind.format), kind.name);
    SeMatrixFormat permuted = kind.format;
    permuted.flags |= SE_FORMAT_PERMUTED;
    CHECK_MESSAGE(!holds_codes(SE_BF16, permuted), kind.name);
  }
  SeMatrixFormat other_supers = quantised_kinds(64, 256)[13].format;
  other_supers.super_cols = 128;
  CHECK(!holds_codes(SE_BF16, other_supers));
  CHECK(!holds_codes(SE_BF16, sparse_experts::float_format(SE_BF16)));
}

}  // namespace
}  // namespace native_test
