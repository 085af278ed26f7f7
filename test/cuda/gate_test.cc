// Router logits against sums in double; the same bits whatever the batch, the kernel or the
// alignment; Gemma 4's norm.
#include <cmath>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/harness.h"
#include "cuda/ops/router.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("gate");

using sparse_experts::cuda::launch_router;
using sparse_experts::cuda::launch_router_sum;
using sparse_experts::cuda::launch_row_norm;
using sparse_experts::cuda::router_splits;
using sparse_experts::cuda::RouterKernel;
using sparse_experts::cuda::RouterKernelArgs;
using sparse_experts::cuda::RowNormArgs;
using sparse_experts::cuda::SplitLogits;

constexpr int32_t kDtypes[] = {SE_F32, SE_F16, SE_BF16};

// A matrix in memory: rows `stride` elements apart, the first one `offset` elements behind an
// aligned address; the gaps are NaN.
struct Matrix {
  Matrix(int32_t element_dtype, int64_t num_rows, int64_t num_columns, int64_t row_stride,
         int64_t first, const std::vector<double>& values)
      : dtype(element_dtype), stride(row_stride), offset(first), bytes([&] {
          std::vector<double> spread(static_cast<size_t>(first + num_rows * row_stride), NAN);
          for (int64_t r = 0; r < num_rows; ++r) {
            for (int64_t c = 0; c < num_columns; ++c)
              spread[static_cast<size_t>(first + r * row_stride + c)] =
                  values[static_cast<size_t>(r * num_columns + c)];
          }
          return encode(element_dtype, spread);
        }()) {}
  const void* data() const { return bytes.data() + offset * dtype_bytes(dtype); }

  int32_t dtype;
  int64_t stride;
  int64_t offset;
  DeviceArray<uint8_t> bytes;
};

struct Shape {
  int64_t num_tokens;
  int64_t num_experts;
  int64_t hidden_size;
};

std::string name_of(const Shape& s, const std::string& more) {
  return "gate T " + std::to_string(s.num_tokens) + " E " + std::to_string(s.num_experts) + " H " +
         std::to_string(s.hidden_size) + " " + more;
}

// Rows [first, first + count) of hidden as a call of their own.
std::vector<float> run_gate(const Shape& shape, const Matrix& hidden, const Matrix& weight,
                            int64_t first, int64_t count, const std::vector<float>& bias,
                            const std::string& what, RouterKernel kernel = RouterKernel::kAuto) {
  constexpr int64_t kGuard = 64;
  const int64_t splits = router_splits(shape.hidden_size);
  const int64_t size = count * shape.num_experts;
  const DeviceArray<float> partials(splits * size + kGuard);
  const DeviceArray<float> logits(size + kGuard);
  const DeviceArray<float> device_bias(bias);
  RouterKernelArgs args = {};
  args.hidden = static_cast<const uint8_t*>(hidden.data()) +
                first * hidden.stride * dtype_bytes(hidden.dtype);
  args.hidden_dtype = hidden.dtype;
  args.hidden_stride = hidden.stride;
  args.weight = weight.data();
  args.weight_dtype = weight.dtype;
  args.weight_stride = weight.stride;
  args.num_tokens = count;
  args.num_experts = shape.num_experts;
  args.hidden_size = shape.hidden_size;
  args.partials = partials;
  args.kernel = kernel;
  if (!synced(launch_router(args, nullptr), what)) return {};
  const std::vector<float> parts = partials.download();
  check_poison(parts, static_cast<size_t>(splits * size), kGuard, what + ": behind partials");
  SplitLogits split = {};
  split.partials = partials;
  split.num_splits = static_cast<int32_t>(splits);
  split.bias = bias.empty() ? nullptr : device_bias.data();
  if (!synced(launch_router_sum(split, count, shape.num_experts, logits, nullptr), what)) return {};
  std::vector<float> out = logits.download();
  check_poison(out, static_cast<size_t>(size), kGuard, what + ": behind logits");
  out.resize(static_cast<size_t>(size));
  // The sum is that of the splits in rising order, the bias last.
  for (int64_t i = 0; i < size; ++i) {
    float sum = parts[static_cast<size_t>(i)];
    for (int64_t s = 1; s < splits; ++s) sum += parts[static_cast<size_t>(s * size + i)];
    if (!bias.empty()) sum += bias[static_cast<size_t>(i % shape.num_experts)];
    const float got = out[static_cast<size_t>(i)];
    if (sum != got && !(std::isnan(sum) && std::isnan(got))) {
      CHECK_MESSAGE(false, what, ": order of the splits at ", i);
      break;
    }
  }
  return out;
}

std::vector<double> expected_logits(const Shape& s, const std::vector<double>& x,
                                    const std::vector<double>& w, const std::vector<float>& bias) {
  std::vector<double> out;
  for (int64_t t = 0; t < s.num_tokens; ++t) {
    for (int64_t e = 0; e < s.num_experts; ++e) {
      double sum = bias.empty() ? 0 : static_cast<double>(bias[static_cast<size_t>(e)]);
      for (int64_t h = 0; h < s.hidden_size; ++h)
        sum += x[static_cast<size_t>(t * s.hidden_size + h)] *
               w[static_cast<size_t>(e * s.hidden_size + h)];
      out.push_back(sum);
    }
  }
  return out;
}

struct Layout {
  int64_t gap = 0;     // between rows
  int64_t offset = 0;  // of the first
};

void check_gate(Random& random, const Shape& s, int32_t hidden_dtype, int32_t weight_dtype,
                Layout hidden_layout, Layout weight_layout, bool with_bias) {
  const std::string what =
      name_of(s, std::string(dtype_name(hidden_dtype)) + " x " + dtype_name(weight_dtype));
  const std::vector<double> x = random_values(random, hidden_dtype, s.num_tokens * s.hidden_size);
  const std::vector<double> w =
      random_values(random, weight_dtype, s.num_experts * s.hidden_size, 0.05);
  const std::vector<float> bias =
      with_bias ? random_array<float>(random, s.num_experts) : std::vector<float>();
  const Matrix hidden(hidden_dtype, s.num_tokens, s.hidden_size, s.hidden_size + hidden_layout.gap,
                      hidden_layout.offset, x);
  const Matrix weight(weight_dtype, s.num_experts, s.hidden_size, s.hidden_size + weight_layout.gap,
                      weight_layout.offset, w);
  const std::vector<float> batch = run_gate(s, hidden, weight, 0, s.num_tokens, bias, what);
  if (batch.empty()) return;
  check_close(to_doubles(batch), expected_logits(s, x, w, bias), 1e-6, what);

  for (const RouterKernel kernel :
       {RouterKernel::kRows1, RouterKernel::kRows4, RouterKernel::kTile})
    check_same_bits(
        batch, run_gate(s, hidden, weight, 0, s.num_tokens, bias, what, kernel),
        what + ": kernel " + std::to_string(static_cast<int>(kernel)) + " gives the same bits");
  // Some rows alone, and in smaller batches.
  for (const int64_t count : {1, 4, 5, 20}) {
    if (count >= s.num_tokens) continue;
    const int64_t first = random.below(s.num_tokens - count + 1);
    const std::vector<float> part = run_gate(s, hidden, weight, first, count, bias, what);
    const std::vector<float> same(batch.begin() + first * s.num_experts,
                                  batch.begin() + (first + count) * s.num_experts);
    check_same_bits(part, same,
                    what + ": " + std::to_string(count) + " rows from " + std::to_string(first) +
                        " have the batch's bits");
  }
  // Aligned and packed: the same bits again.
  if (hidden_layout.offset + hidden_layout.gap + weight_layout.offset + weight_layout.gap > 0) {
    const Matrix packed_hidden(hidden_dtype, s.num_tokens, s.hidden_size, s.hidden_size, 0, x);
    const Matrix packed_weight(weight_dtype, s.num_experts, s.hidden_size, s.hidden_size, 0, w);
    check_same_bits(batch, run_gate(s, packed_hidden, packed_weight, 0, s.num_tokens, bias, what),
                    what + ": alignment changes no bit");
  }
}

TEST_CASE("sizes") {
  Random random(20261125);
  int turn = 0;
  for (const int64_t hidden_size : {1, 8, 17, 31, 128, 129, 512, 513, 704, 1408, 2880}) {
    for (const int64_t num_experts : {1, 8, 9, 65}) {
      const int64_t num_tokens = std::vector<int64_t>{1, 4, 5, 16, 17}[turn % 5];
      const int32_t hidden_dtype = kDtypes[turn % 3];
      const int32_t weight_dtype = kDtypes[turn / 3 % 3];
      check_gate(random, {num_tokens, num_experts, hidden_size}, hidden_dtype, weight_dtype, {}, {},
                 turn % 2 == 0);
      ++turn;
    }
  }
  check_gate(random, {2, 9, 7168}, SE_BF16, SE_F32, {}, {}, false);
  check_gate(random, {2, 3, 8192}, SE_BF16, SE_BF16, {}, {}, false);
  // More columns than 16 splits of one panel hold.
  check_gate(random, {6, 3, 8193}, SE_F32, SE_F32, {}, {}, false);
  check_gate(random, {2, 3, 17000}, SE_F16, SE_F32, {}, {}, true);
}

TEST_CASE("dtypes") {
  Random random(20261125);
  for (const int32_t hidden_dtype : kDtypes) {
    for (const int32_t weight_dtype : kDtypes) {
      for (const int64_t hidden_size : {31, 264}) {
        check_gate(random, {3, 10, hidden_size}, hidden_dtype, weight_dtype, {}, {}, true);
        check_gate(random, {35, 10, hidden_size}, hidden_dtype, weight_dtype, {}, {}, false);
        check_gate(random, {66, 67, hidden_size}, hidden_dtype, weight_dtype, {}, {}, false);
      }
      // Bases and rows that no vector load may touch.
      check_gate(random, {6, 9, 136}, hidden_dtype, weight_dtype, {1, 1}, {3, 0}, false);
      check_gate(random, {6, 9, 136}, hidden_dtype, weight_dtype, {8, 0}, {0, 3}, false);
      check_gate(random, {67, 33, 136}, hidden_dtype, weight_dtype, {0, 1}, {8, 8}, false);
    }
  }
}

TEST_CASE("many tokens") {
  Random random(20261125);
  for (const int64_t num_tokens : {64, 65, 193}) {
    check_gate(random, {num_tokens, 64, 520}, SE_BF16, SE_F32, {}, {}, true);
    check_gate(random, {num_tokens, 17, 137}, SE_F32, SE_F32, {}, {}, false);
  }
  // Enough tiles to be chosen without being asked for.
  const Shape s = {64 * 53 + 1, 200, 33};
  const std::vector<double> x = random_values(random, SE_BF16, s.num_tokens * s.hidden_size);
  const std::vector<double> w = random_values(random, SE_F32, s.num_experts * s.hidden_size);
  const Matrix hidden(SE_BF16, s.num_tokens, s.hidden_size, s.hidden_size, 0, x);
  const Matrix weight(SE_F32, s.num_experts, s.hidden_size, s.hidden_size, 0, w);
  const std::string what = name_of(s, "many tiles");
  check_close(to_doubles(run_gate(s, hidden, weight, 0, s.num_tokens, {}, what)),
              expected_logits(s, x, w, {}), 1e-6, what);
}

// An infinite or NaN element reaches its own row's logits and no others.
TEST_CASE("non finite") {
  Random random(20261125);
  const Shape s = {200, 20, 300};
  for (const int32_t dtype : {SE_F32, SE_BF16}) {
    std::vector<double> x = random_values(random, dtype, s.num_tokens * s.hidden_size);
    const std::vector<double> w = random_values(random, SE_F32, s.num_experts * s.hidden_size);
    x[static_cast<size_t>(7 * s.hidden_size + 299)] = NAN;
    x[static_cast<size_t>(90 * s.hidden_size)] = INFINITY;
    const Matrix hidden(dtype, s.num_tokens, s.hidden_size, s.hidden_size, 0, x);
    const Matrix weight(SE_F32, s.num_experts, s.hidden_size, s.hidden_size, 0, w);
    for (const RouterKernel kernel :
         {RouterKernel::kRows1, RouterKernel::kRows4, RouterKernel::kTile}) {
      const std::string what = name_of(s, std::string(dtype_name(dtype)) + " not finite");
      const std::vector<float> out = run_gate(s, hidden, weight, 0, 200, {}, what, kernel);
      Every good;
      for (size_t i = 0; i < out.size(); ++i)
        good.equal(std::isfinite(out[i]), i / 20 != 7 && i / 20 != 90);
      good.equal(out.size(), size_t{200 * 20});
      good.check(what);
    }
  }
}

// The same of a router weight, which bf16 rows meet in parts: its expert's logits in every row, no others.
TEST_CASE("non finite weights") {
  Random random(20261125);
  const Shape s = {18, 20, 300};
  const std::vector<double> x = random_values(random, SE_BF16, s.num_tokens * s.hidden_size);
  std::vector<double> w = random_values(random, SE_F32, s.num_experts * s.hidden_size);
  w[static_cast<size_t>(7 * s.hidden_size + 299)] = NAN;
  w[static_cast<size_t>(9 * s.hidden_size)] = -INFINITY;
  const Matrix hidden(SE_BF16, s.num_tokens, s.hidden_size, s.hidden_size, 0, x);
  const Matrix weight(SE_F32, s.num_experts, s.hidden_size, s.hidden_size, 0, w);
  for (const RouterKernel kernel : {RouterKernel::kRows1, RouterKernel::kTile}) {
    const std::string what = name_of(s, "weights not finite");
    const std::vector<float> out = run_gate(s, hidden, weight, 0, 18, {}, what, kernel);
    Every good;
    for (size_t i = 0; i < out.size(); ++i)
      good.equal(std::isfinite(out[i]), i % 20 != 7 && i % 20 != 9);
    good.equal(out.size(), size_t{18 * 20});
    good.check(what);
  }
}

double distance(const std::vector<float>& logits, const std::vector<double>& expected) {
  double sum = 0;
  double size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double off = static_cast<double>(logits[i]) - expected[i];
    sum += off * off;
    size += expected[i] * expected[i];
  }
  return std::sqrt(sum / size);
}

// Of rows in bf16, multiplied on tensor cores, against the same values as f32, which are not. Also where
// large products cancel, and where weights have every exponent.
TEST_CASE("tensor cores are as exact as f32") {
  Random random(20261130);
  const Shape s = {40, 24, 2048};
  const std::vector<double> x = random_values(random, SE_BF16, s.num_tokens * s.hidden_size);
  const std::vector<double> plain = random_values(random, SE_F32, s.num_experts * s.hidden_size);
  std::vector<double> wide = plain;
  std::vector<double> cancelling = plain;
  for (size_t i = 0; i < wide.size(); ++i) {
    wide[i] = static_cast<float>(std::ldexp(plain[i], static_cast<int>(random.below(40)) - 30));
    // Pairs of columns with nearly opposite products, where x is the same in both.
    cancelling[i] = static_cast<float>((i % 2 == 0 ? 300 : -300) + plain[i]);
  }
  std::vector<double> pairs = x;
  for (size_t i = 1; i < pairs.size(); i += 2) pairs[i] = pairs[i - 1];
  const auto compare = [&](const std::vector<double>& rows, const std::vector<double>& weights,
                           const std::string& what) {
    const std::vector<double> expected = expected_logits(s, rows, weights, {});
    const Matrix weight(SE_F32, s.num_experts, s.hidden_size, s.hidden_size, 0, weights);
    const auto distance_of = [&](int32_t dtype) {
      const Matrix hidden(dtype, s.num_tokens, s.hidden_size, s.hidden_size, 0, rows);
      return distance(run_gate(s, hidden, weight, 0, s.num_tokens, {}, what), expected);
    };
    const double on_tensor_cores = distance_of(SE_BF16);
    const double in_f32 = distance_of(SE_F32);
    CHECK_MESSAGE(on_tensor_cores <= 1.5 * in_f32, what, ": ", on_tensor_cores, ", in f32 ",
                  in_f32);
  };
  compare(x, plain, "plain");
  compare(x, wide, "weights of every size");
  compare(pairs, cancelling, "products that cancel");
}

TEST_CASE("router rows") {
  Random random(20261125);
  for (const int32_t dtype : kDtypes) {
    for (const int64_t hidden_size : {1, 17, 255, 256, 257, 2816}) {
      const int64_t num_tokens = 3;
      const int64_t stride = hidden_size + 5;
      const double epsilon = 1e-6;
      const std::vector<double> x = random_values(random, dtype, num_tokens * hidden_size, 3);
      const std::vector<float> scale = random_array<float>(random, hidden_size);
      const Matrix input(dtype, num_tokens, hidden_size, stride, 1, x);
      const DeviceArray<float> device_scale(scale);
      const DeviceArray<float> rows(num_tokens * hidden_size);
      RowNormArgs args = {};
      args.input = input.data();
      args.input_dtype = dtype;
      args.input_stride = stride;
      args.scale = device_scale;
      args.epsilon = epsilon;
      args.gain = 1 / std::sqrt(static_cast<double>(hidden_size));
      args.num_tokens = num_tokens;
      args.hidden_size = hidden_size;
      args.rows = rows;
      const std::string what =
          std::string("router rows ") + dtype_name(dtype) + " H " + std::to_string(hidden_size);
      if (!synced(launch_row_norm(args, nullptr), what)) continue;
      std::vector<double> expected;
      for (int64_t t = 0; t < num_tokens; ++t) {
        double squares = 0;
        for (int64_t h = 0; h < hidden_size; ++h) {
          const double value = x[static_cast<size_t>(t * hidden_size + h)];
          squares += value * value;
        }
        const double size = static_cast<double>(hidden_size);
        for (int64_t h = 0; h < hidden_size; ++h)
          expected.push_back(x[static_cast<size_t>(t * hidden_size + h)] /
                             std::sqrt(squares / size + epsilon) / std::sqrt(size) *
                             static_cast<double>(scale[static_cast<size_t>(h)]));
      }
      check_close(to_doubles(rows.download()), expected, 1e-7, what);
      // A row alone.
      const DeviceArray<float> alone(hidden_size);
      args.input = static_cast<const uint8_t*>(input.data()) + 2 * stride * dtype_bytes(dtype);
      args.num_tokens = 1;
      args.rows = alone;
      if (!synced(launch_row_norm(args, nullptr), what)) continue;
      const std::vector<float> all = rows.download();
      check_same_bits(alone.download(),
                      std::vector<float>(all.begin() + 2 * hidden_size, all.end()),
                      what + ": a row alone has the batch's bits");
      // Rows where they were read.
      args.input = alone;
      args.input_dtype = SE_F32;
      args.input_stride = hidden_size;
      const DeviceArray<float> twice(hidden_size);
      args.rows = twice;
      if (!synced(launch_row_norm(args, nullptr), what)) continue;
      args.rows = alone;
      if (!synced(launch_row_norm(args, nullptr), what)) continue;
      check_same_bits(alone.download(), twice.download(), what + ": in place");
    }
  }
}

TEST_CASE("refusals") {
  CHECK_MESSAGE(router_splits(1) == 1, "gate: splits");
  CHECK_MESSAGE(router_splits(512) == 1, "gate: splits");
  CHECK_MESSAGE(router_splits(513) == 2, "gate: splits");
  CHECK_MESSAGE(router_splits(7168) == 14, "gate: splits");
  CHECK_MESSAGE(router_splits(8192) == 16, "gate: splits");
  CHECK_MESSAGE(router_splits(8193) <= 16, "gate: splits");
  CHECK_MESSAGE(router_splits(1000000) <= 16, "gate: splits");
  RouterKernelArgs args = {};
  args.num_experts = 4;
  args.hidden_size = 8;
  CHECK_MESSAGE(launch_router(args, nullptr) == cudaSuccess, "gate: no tokens");
  CHECK_MESSAGE(launch_router_sum({}, 0, 4, nullptr, nullptr) == cudaSuccess,
                "gate sum: no tokens");
  CHECK_MESSAGE(launch_row_norm({}, nullptr) == cudaSuccess, "router rows: no tokens");
  args.num_tokens = 1;
  args.hidden_dtype = SE_I32;
  CHECK_MESSAGE(launch_router(args, nullptr) == cudaErrorInvalidValue,
                "gate: a dtype that is none");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
