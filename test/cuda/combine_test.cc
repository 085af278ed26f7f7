// Combine, the shared expert's coefficient and the listed slots: against double precision, and bit
// by bit against a plain loop in rising slot order.
#include "cuda/ops/combine.h"

#include <algorithm>
#include <cmath>

#include "cuda/context.h"
#include "cuda/harness.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("combine");

using sparse_experts::cuda::bits_float;
using sparse_experts::cuda::CombineKernelArgs;
using sparse_experts::cuda::launch_combine;
using sparse_experts::cuda::launch_listed_slots;
using sparse_experts::cuda::launch_shared_coefficients;

constexpr int32_t kFloatDtypes[] = {SE_F32, SE_F16, SE_BF16};

struct Case {
  const char* name;
  int64_t tokens, top_k, columns;
  int32_t output_dtype = SE_F32;
  int32_t hidden_dtype = SE_F32;
  bool ids = true;
  bool identity = false;  // experts 4 and 5 of 6
  bool present = false;   // expert 1 is not here
  bool weights_applied = false;
  bool projected = false;
  int32_t shared = -1;  // SeSharedGate
  bool bias = false;
  bool flags = true;
  int64_t output_pad = 0;
  int64_t hidden_pad = 0;
  int64_t shift = 0;  // elements before every array of floats
};

constexpr int64_t kExperts = 4;

// An array that begins `shift` elements behind an allocation.
std::vector<float> shifted(const std::vector<float>& values, int64_t shift) {
  std::vector<float> all(static_cast<size_t>(shift), std::nanf(""));
  all.insert(all.end(), values.begin(), values.end());
  return all;
}

std::vector<uint8_t> shifted_bytes(int32_t dtype, const std::vector<double>& values,
                                   int64_t shift) {
  std::vector<double> all(static_cast<size_t>(shift), std::nan(""));
  all.insert(all.end(), values.begin(), values.end());
  return encode(dtype, all);
}

struct Result {
  std::vector<uint8_t> output;
  std::vector<uint8_t> flags;
};

class Problem {
 public:
  Problem(const Case& c, uint64_t seed) : c_(c) {
    Random random(seed);
    const int64_t slots = c.tokens * c.top_k;
    ids_.resize(static_cast<size_t>(slots));
    for (int32_t& id : ids_) {
      id = static_cast<int32_t>(random.below(c.identity ? kExperts + 2 : kExperts));
      if (random.uniform() < 0.15) id = random.uniform() < 0.5 ? -1 : -7;
    }
    weights_ = random_array<float>(random, slots);
    expert_output_ = random_array<float>(random, slots * c.columns);
    hidden_ = random_values(random, c.hidden_dtype, c.tokens * hidden_stride());
    projected_ = random_array<float>(random, c.tokens * c.columns);
    shared_ = random_array<float>(random, c.tokens * c.columns);
    bias_ = random_array<float>(random, c.columns);
    coefficients_.resize(static_cast<size_t>(c.tokens));
    for (float& value : coefficients_) value = static_cast<float>(random.uniform());
    flags_.assign(static_cast<size_t>(c.tokens), 0);
    for (int64_t row = 3; row < c.tokens; row += 5) flags_[static_cast<size_t>(row)] = 1;
    // Rows that must not be read.
    for (int64_t slot = 0; slot < slots; ++slot) {
      if (!counts(slot) || is_identity(slot) || is_flagged(slot / c.top_k))
        std::fill_n(expert_output_.begin() + slot * c.columns, c.columns, std::nanf(""));
      if (!counts(slot)) weights_[static_cast<size_t>(slot)] = std::nanf("");
    }
  }

  Case& options() { return c_; }
  std::vector<float>& expert_output() { return expert_output_; }
  std::vector<float>& bias() { return bias_; }
  std::vector<int32_t>& ids() { return ids_; }
  std::vector<float>& weights() { return weights_; }
  int64_t output_stride() const { return c_.columns + c_.output_pad; }
  int64_t hidden_stride() const { return c_.columns + c_.hidden_pad; }
  bool is_flagged(int64_t row) const { return c_.flags && flags_[static_cast<size_t>(row)] != 0; }
  bool is_identity(int64_t slot) const {
    return c_.ids && ids_[static_cast<size_t>(slot)] >= kExperts;
  }
  bool counts(int64_t slot) const {
    if (!c_.ids) return true;
    const int32_t id = ids_[static_cast<size_t>(slot)];
    return id >= 0 && !(c_.present && id == 1);
  }

  // The same sum in double, not rounded.
  double expected(int64_t row, int64_t column) const {
    if (is_flagged(row)) return std::nan("");
    double sum = 0;
    if (c_.projected) {
      sum = static_cast<double>(projected_[static_cast<size_t>(row * c_.columns + column)]);
    } else {
      for (int64_t slot = row * c_.top_k; slot < (row + 1) * c_.top_k; ++slot) {
        if (!counts(slot)) continue;
        const double weight = static_cast<double>(weights_[static_cast<size_t>(slot)]);
        if (is_identity(slot)) {
          sum += weight * hidden_[static_cast<size_t>(row * hidden_stride() + column)];
        } else {
          sum +=
              (c_.weights_applied ? 1 : weight) *
              static_cast<double>(expert_output_[static_cast<size_t>(slot * c_.columns + column)]);
        }
      }
    }
    if (c_.shared >= 0) {
      const double shared =
          static_cast<double>(shared_[static_cast<size_t>(row * c_.columns + column)]);
      const double coefficient = c_.shared == SE_SHARED_PLAIN
                                     ? 1
                                     : static_cast<double>(coefficients_[static_cast<size_t>(row)]);
      if (c_.shared == SE_SHARED_MIX) sum *= 1 - coefficient;
      sum += coefficient * shared;
    }
    if (c_.bias) sum += static_cast<double>(bias_[static_cast<size_t>(column)]);
    return sum;
  }

  // What the kernel promises, operation by operation, before the last rounding.
  float exact(int64_t row, int64_t column) const {
    if (is_flagged(row)) return bits_float(0x7fc00000u);
    float sum = 0;
    if (c_.projected) {
      sum = projected_[static_cast<size_t>(row * c_.columns + column)];
    } else {
      for (int64_t slot = row * c_.top_k; slot < (row + 1) * c_.top_k; ++slot) {
        if (!counts(slot)) continue;
        const float weight = weights_[static_cast<size_t>(slot)];
        if (is_identity(slot)) {
          sum = std::fma(
              weight,
              static_cast<float>(hidden_[static_cast<size_t>(row * hidden_stride() + column)]),
              sum);
        } else {
          sum = std::fma(c_.weights_applied ? 1.0f : weight,
                         expert_output_[static_cast<size_t>(slot * c_.columns + column)], sum);
        }
      }
    }
    if (c_.shared >= 0) {
      const float coefficient =
          c_.shared == SE_SHARED_PLAIN ? 1.0f : coefficients_[static_cast<size_t>(row)];
      if (c_.shared == SE_SHARED_MIX) sum *= 1.0f - coefficient;
      sum = std::fma(coefficient, shared_[static_cast<size_t>(row * c_.columns + column)], sum);
    }
    if (c_.bias) sum += bias_[static_cast<size_t>(column)];
    return sum;
  }

  Result run(const std::string& what) const {
    const int64_t element = dtype_bytes(c_.output_dtype);
    DeviceArray<float> expert_output(shifted(expert_output_, c_.shift));
    DeviceArray<int32_t> ids(ids_);
    DeviceArray<float> weights(weights_);
    DeviceArray<uint8_t> hidden(shifted_bytes(c_.hidden_dtype, hidden_, c_.shift));
    DeviceArray<float> projected(shifted(projected_, c_.shift));
    DeviceArray<float> shared(shifted(shared_, c_.shift));
    DeviceArray<float> coefficients(coefficients_);
    DeviceArray<float> bias(shifted(bias_, c_.shift));
    DeviceArray<uint8_t> flags(flags_);
    std::vector<const void*> entries(kExperts, expert_output.data());
    entries[1] = nullptr;
    DeviceArray<const void*> present(entries);
    DeviceArray<uint8_t> output((c_.shift + c_.tokens * output_stride()) * element);

    CombineKernelArgs args = {};
    args.num_tokens = c_.tokens;
    args.top_k = c_.top_k;
    args.hidden_size = c_.columns;
    args.expert_output = expert_output.data() + c_.shift;
    args.topk_ids = c_.ids ? ids.data() : nullptr;
    args.topk_weights = weights;
    args.weights_applied = c_.weights_applied ? 1 : 0;
    args.num_experts = kExperts;
    args.present = c_.present ? present.data() : nullptr;
    args.hidden = hidden.data() + c_.shift * dtype_bytes(c_.hidden_dtype);
    args.hidden_dtype = c_.hidden_dtype;
    args.hidden_stride = hidden_stride();
    args.projected = c_.projected ? projected.data() + c_.shift : nullptr;
    args.shared_output = c_.shared >= 0 ? shared.data() + c_.shift : nullptr;
    args.shared_gate_mode = std::max(c_.shared, 0);
    args.shared_coefficients = c_.shared > SE_SHARED_PLAIN ? coefficients.data() : nullptr;
    args.output_bias = c_.bias ? bias.data() + c_.shift : nullptr;
    args.non_finite = c_.flags ? flags.data() : nullptr;
    args.output = output.data() + c_.shift * element;
    args.output_dtype = c_.output_dtype;
    args.output_stride = output_stride();
    Result result;
    if (!synced(launch_combine(args, nullptr), what)) return result;
    result.output = output.download();
    result.flags = flags.download();
    check_poison(result.output, 0, static_cast<size_t>(c_.shift * element), what);
    result.output.erase(result.output.begin(),
                        result.output.begin() + static_cast<ptrdiff_t>(c_.shift * element));
    return result;
  }

 private:
  Case c_;
  std::vector<int32_t> ids_;
  std::vector<float> weights_, expert_output_, projected_, shared_, bias_, coefficients_;
  std::vector<double> hidden_;
  std::vector<uint8_t> flags_;
};

// The bits of an element of up to four bytes.
uint32_t raw(const uint8_t* bytes, int64_t size) {
  uint32_t bits = 0;
  std::memcpy(&bits, bytes, static_cast<size_t>(size));
  return bits;
}

double bound_of(int32_t dtype) { return dtype == SE_F32 ? 3e-7 : dtype == SE_F16 ? 4e-4 : 3e-3; }

void check_result(const Problem& problem, const Case& c, const Result& result) {
  const std::string what = c.name;
  const int64_t element = dtype_bytes(c.output_dtype);
  if (!CHECK_MESSAGE(static_cast<int64_t>(result.output.size()) ==
                         c.tokens * problem.output_stride() * element,
                     what, ": has a result"))
    return;
  const std::vector<double> out = decode(c.output_dtype, result.output);
  std::vector<double> there, wanted;
  Every exact;
  Every flagged_nan;
  Every padding;
  for (int64_t row = 0; row < c.tokens; ++row) {
    for (int64_t column = 0; column < problem.output_stride(); ++column) {
      const size_t at = static_cast<size_t>(row * problem.output_stride() + column);
      const uint8_t* bytes = result.output.data() + at * static_cast<size_t>(element);
      if (column >= c.columns) {
        for (int64_t b = 0; b < element; ++b) padding.equal(int{bytes[b]}, 0xFF);
        continue;
      }
      const std::vector<uint8_t> bits =
          encode(c.output_dtype, {static_cast<double>(problem.exact(row, column))});
      exact.equal(raw(bytes, element), raw(bits.data(), element));
      if (problem.is_flagged(row)) {
        flagged_nan.that(std::isnan(out[at]));
      } else {
        there.push_back(out[at]);
        wanted.push_back(problem.expected(row, column));
      }
    }
  }
  check_close(there, wanted, bound_of(c.output_dtype), what);
  exact.check(what + ": the bits of a loop in slot order");
  flagged_nan.check(what + ": flagged rows are NaN");
  padding.check(what + ": columns behind the rows stay");
  Every flags;
  for (int64_t row = 0; row < c.tokens; ++row)
    flags.that(
        (!c.flags || (result.flags[static_cast<size_t>(row)] != 0) == problem.is_flagged(row)));
  flags.check(what + ": flags stay as they were");
}

void run_case(const Case& c, uint64_t seed) {
  const Problem problem(c, seed);
  const Result result = problem.run(c.name);
  check_result(problem, c, result);
  check_same_bits(result.output, problem.run(c.name).output, std::string(c.name) + ": again");
}

TEST_CASE("options") {
  uint64_t seed = 1000;
  for (const int32_t dtype : kFloatDtypes) {
    Case c = {"plain", 9, 3, 96, dtype};
    run_case(c, ++seed);
    Case every = {"everything", 17, 4, 160, dtype};
    every.hidden_dtype = kFloatDtypes[(dtype + 1) % 3];
    every.identity = true;
    every.present = true;
    every.shared = SE_SHARED_MIX;
    every.bias = true;
    every.output_pad = 8;
    every.hidden_pad = 4;
    run_case(every, ++seed);
    every.name = "everything, misaligned";
    every.shift = 1;
    every.output_pad = 3;
    run_case(every, ++seed);
    every.name = "everything, one column at a time by the output's stride";
    every.shift = 0;
    run_case(every, ++seed);
  }
  for (const int32_t hidden_dtype : kFloatDtypes) {
    for (const bool applied : {false, true}) {
      Case c = {"identity experts", 8, 4, 64, SE_BF16, hidden_dtype};
      c.identity = true;
      c.weights_applied = applied;
      run_case(c, ++seed);
    }
  }
  for (const int32_t mode : {SE_SHARED_PLAIN, SE_SHARED_SIGMOID, SE_SHARED_MIX}) {
    for (const bool projected : {false, true}) {
      Case c = {"shared expert", 7, 2, 40};
      c.shared = mode;
      c.projected = projected;
      c.bias = projected;
      run_case(c, ++seed);
    }
  }
  Case stage = {"the stage: no ids, no flags", 31, 2, 33};
  stage.ids = false;
  stage.flags = false;
  run_case(stage, ++seed);
}

TEST_CASE("sizes") {
  uint64_t seed = 2000;
  for (const int64_t columns : {1, 8, 17, 31, 96, 160, 192, 704, 1407, 2880, 4100}) {
    const std::string name = std::to_string(columns) + " columns";
    Case c = {name.c_str(), 5, 3, columns, SE_F16};
    run_case(c, ++seed);
  }
  for (const int64_t tokens : {1, 7, 8, 9, 31, 33, 65, 130, 300}) {
    const std::string name = std::to_string(tokens) + " tokens";
    Case c = {name.c_str(), tokens, 2, 24, SE_BF16};
    run_case(c, ++seed);
  }
  // Several lists per row, and one list for several passes over the columns.
  for (const int64_t top_k : {1, 5, 32, 33, 127, 128, 129, 300}) {
    const std::string name = "top_k " + std::to_string(top_k);
    Case c = {name.c_str(), 3, top_k, 24};
    c.identity = true;
    run_case(c, ++seed);
    c.columns = 1100;
    c.shift = 1;  // one column per thread: two passes
    if (top_k > 100 && top_k < 130) run_case(c, ++seed);
  }
  Case none = {"no slot counts", 4, 2, 16};
  Problem problem(none, ++seed);
  std::fill(problem.ids().begin(), problem.ids().end(), -1);
  const std::vector<double> out = decode(SE_F32, problem.run(none.name).output);
  bool zero = out.size() == 64;
  for (int64_t i = 0; zero && i < 64; ++i)
    zero = problem.is_flagged(i / 16) || out[static_cast<size_t>(i)] == 0.0;
  CHECK_MESSAGE(zero, "no slot counts: zeros");

  CombineKernelArgs args = {};
  args.hidden_size = 8;
  CHECK_MESSAGE(launch_combine(args, nullptr) == cudaSuccess, "no tokens: nothing to do");
  args.num_tokens = 1;
  args.output_dtype = SE_I32;
  CHECK_MESSAGE(launch_combine(args, nullptr) == cudaErrorInvalidValue, "no such output dtype");
}

// A row alone has the bits that it has in the batch, misaligned or not.
TEST_CASE("invariance") {
  Case c = {"invariance", 270, 3, 100, SE_BF16};
  c.identity = true;
  c.shared = SE_SHARED_SIGMOID;
  const Problem problem(c, 3000);
  const Result all = problem.run("invariance");
  for (const int64_t shift : {1, 2}) {
    Problem other(c, 3000);
    other.options().shift = shift;
    check_same_bits(all.output, other.run("shifted").output,
                    "invariance: misaligned by " + std::to_string(shift));
  }
  // 270 rows take blocks of 256 threads, a few take larger ones.
  Case few = c;
  few.tokens = 2;
  Problem alone(few, 3000);
  const Result small = alone.run("few");
  check_result(alone, few, small);
}

// Outputs that are not finite flag their row, and the row's other columns keep their bits.
TEST_CASE("non finite") {
  for (const int32_t dtype : kFloatDtypes) {
    const std::string what = std::string("non-finite outputs, ") + dtype_name(dtype);
    Case c = {"non-finite", 6, 2, 1500, dtype};
    c.ids = false;
    Problem problem(c, 4000);
    const auto row_value = [&](int64_t row, int64_t column) -> float& {
      return problem.expert_output()[static_cast<size_t>(row * 2 * c.columns + column)];
    };
    row_value(0, 1400) = INFINITY;
    row_value(1, 3) = std::nanf("");
    row_value(2, 7) = dtype == SE_F16 ? 1e6f : 3.4028235e38f;  // overflows in the rounding or sum
    problem.weights()[4] = 4;
    const Result result = problem.run(what);
    if (result.output.empty()) continue;
    const std::vector<uint8_t> flags = {1, 1, 1, 1, 0, 0};  // row 3 came with a flag
    check_equal(result.flags, flags, what + ": flags");
    Every exact;
    const int64_t element = dtype_bytes(dtype);
    for (int64_t row = 0; row < c.tokens; ++row) {
      for (int64_t column = 0; column < c.columns; ++column) {
        const std::vector<uint8_t> bits =
            encode(dtype, {static_cast<double>(problem.exact(row, column))});
        const std::vector<uint8_t> out(
            result.output.begin() + (row * c.columns + column) * element,
            result.output.begin() + (row * c.columns + column + 1) * element);
        if (std::isnan(decode(dtype, bits)[0]) && std::isnan(decode(dtype, out)[0])) continue;
        exact.equal(raw(out.data(), element), raw(bits.data(), element));
      }
    }
    exact.check(what + ": all columns of such a row are written as they come");
  }
}

TEST_CASE("coefficients") {
  uint64_t seed = 5000;
  for (const int32_t dtype : kFloatDtypes) {
    for (const int64_t columns : {1, 8, 17, 96, 1407, 2880, 4096}) {
      const std::string what =
          std::string("coefficients ") + dtype_name(dtype) + " " + std::to_string(columns);
      Random random(++seed);
      const int64_t tokens = 9;
      const int64_t stride = columns + (columns % 8 == 0 ? 8 : 3);
      const std::vector<double> hidden = random_values(random, dtype, tokens * stride);
      const std::vector<float> gate =
          random_array<float>(random, columns, 2 / std::sqrt(static_cast<double>(columns)));
      // Of every other width: a layer may have none.
      const bool is_biased = columns % 2 == 1;
      const std::vector<float> bias = random_array<float>(random, 1);
      const DeviceArray<float> device_bias(bias);
      const float* with_bias = is_biased ? static_cast<const float*>(device_bias) : nullptr;
      std::vector<std::vector<float>> results;
      for (const int64_t shift : {0, 1}) {
        DeviceArray<uint8_t> x(shifted_bytes(dtype, hidden, shift));
        DeviceArray<float> weights(shifted(gate, shift));
        DeviceArray<float> out(tokens);
        if (!synced(launch_shared_coefficients(x.data() + shift * dtype_bytes(dtype), dtype, stride,
                                               weights.data() + shift, with_bias, tokens, columns,
                                               out, nullptr),
                    what))
          continue;
        results.push_back(out.download());
        // The last row alone.
        DeviceArray<float> alone(1);
        if (!synced(launch_shared_coefficients(
                        x.data() + (shift + (tokens - 1) * stride) * dtype_bytes(dtype), dtype,
                        stride, weights.data() + shift, with_bias, 1, columns, alone, nullptr),
                    what))
          continue;
        CHECK_MESSAGE(alone.download()[0] == results.back()[tokens - 1], what, ": a row alone");
      }
      if (!CHECK_MESSAGE(results.size() == 2, what, ": ran")) continue;
      check_same_bits(results[0], results[1], what + ": misaligned, same bits");
      std::vector<double> expected;
      for (int64_t row = 0; row < tokens; ++row) {
        double sum = is_biased ? bias[0] : 0;
        for (int64_t column = 0; column < columns; ++column)
          sum += hidden[static_cast<size_t>(row * stride + column)] *
                 static_cast<double>(gate[static_cast<size_t>(column)]);
        expected.push_back(1 / (1 + std::exp(-sum)));
      }
      check_close(to_doubles(results[0]), expected, 5e-7, what);
    }
  }
  CHECK_MESSAGE(launch_shared_coefficients(nullptr, SE_F32, 1, nullptr, nullptr, 0, 1, nullptr,
                                           nullptr) == cudaSuccess,
                "coefficients: no tokens");
}

TEST_CASE("listed slots") {
  for (const int64_t num_slots : {0, 1, 31, 255, 256, 257, 2000}) {
    const std::string what = "listed slots of " + std::to_string(num_slots);
    Random random(static_cast<uint64_t>(6000 + num_slots));
    std::vector<int32_t> slots, expected(static_cast<size_t>(num_slots), -1);
    for (int64_t slot = num_slots - 1; slot >= 0; --slot) {
      if (random.uniform() < 0.3) continue;
      slots.push_back(static_cast<int32_t>(slot));
      expected[static_cast<size_t>(slot)] = 0;
    }
    const int32_t listed = static_cast<int32_t>(slots.size());
    slots.resize(static_cast<size_t>(num_slots), -1);
    DeviceArray<int32_t> offsets(std::vector<int32_t>{0, listed / 2, listed});
    DeviceArray<int32_t> sorted_slots(slots);
    DeviceArray<int32_t> ids(num_slots);
    if (!synced(launch_listed_slots(offsets, 2, sorted_slots, num_slots, ids, nullptr), what))
      continue;
    check_equal(ids.download(), expected, what);
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
