// The stage ops, activations and conversions against naive double precision.
#include <algorithm>
#include <cfloat>

#include "cases.h"
#include "cpp/check.h"
#include "cpu/isa/choose_isa.h"
#include "native/context.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("stages");

using sparse_experts::cpu::IsaKernels;

const IsaKernels& kernels_of(const Context& context) {
  for (auto isa = sparse_experts::cpu::available_isas();; ++isa)
    if (context.isa == (*isa)->name) return **isa;
}

TEST_CASE("conversions") {
  const Context& context = current();
  const IsaKernels& kernels = kernels_of(context);
  Every exact;
  for (const int32_t dtype : {SE_F16, SE_BF16}) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const uint16_t half = static_cast<uint16_t>(bits);
      float wide = 0;
      uint16_t back = 0;
      kernels.widen(&wide, &half, dtype, 1);
      const double expected = element(&half, dtype, 0);
      const int finite = kernels.narrow(&back, dtype, &wide, 1);
      const bool is_nan = std::isnan(expected);
      exact.that((is_nan ? std::isnan(wide) && std::isnan(element(&back, dtype, 0))
                         : wide == expected && back == half));
      exact.equal(finite, (std::isfinite(expected) ? 1 : 0));
    }
  }
  exact.check("every f16 and bf16 pattern survives f32");
  // Rounding: the nearest of the two neighbours, ties to the even one.
  Random random(3);
  Every nearest;
  for (const int32_t dtype : {SE_F16, SE_BF16}) {
    const uint16_t infinity = dtype == SE_F16 ? 0x7c00 : 0x7f80;
    for (int i = 0; i < 40000; ++i) {
      const uint16_t low = static_cast<uint16_t>(random.below(infinity - 1));
      const uint16_t high = static_cast<uint16_t>(low + 1);
      const double a = element(&low, dtype, 0);
      const double b = element(&high, dtype, 0);
      const float v = static_cast<float>(i % 4 == 0 ? (a + b) / 2 : a + (b - a) * random.uniform());
      uint16_t got = 0;
      kernels.narrow(&got, dtype, &v, 1);
      const double to_low = static_cast<double>(v) - a;
      const double to_high = b - static_cast<double>(v);
      const uint16_t expected = to_low < to_high   ? low
                                : to_low > to_high ? high
                                                   : (low % 2 == 0 ? low : high);
      nearest.equal(got, expected);
    }
  }
  nearest.check("conversion rounds to nearest, ties to even");
}

TEST_CASE("activations") {
  const Context& context = current();
  const IsaKernels& kernels = kernels_of(context);
  for (const int32_t kind :
       {SE_SILU, SE_GELU, SE_GELU_TANH, SE_RELU, SE_RELU2, SE_IDENTITY, SE_SITU}) {
    for (const int32_t gated : {0, 1}) {
      const float alpha = kind == SE_SITU ? 4.0f : kind == SE_SILU && gated ? 1.702f : 1.0f;
      // SITU rounds up before the offset, which would cancel it somewhere.
      const float offset = gated && kind != SE_SITU ? 1.0f : 0.0f;
      SeActivationSpec spec{kind, gated, alpha, offset, gated ? 7.0f : 0.0f, gated ? 8.5f : 0.0f};
      const int64_t n = 40001;
      std::vector<float> gate(n), up(n), out(n, NAN), single(n, NAN);
      double worst = 0;
      for (int64_t i = 0; i < n; ++i) {
        gate[i] = static_cast<float>(-20 + 40.0 * i / (n - 1));
        up[i] = gated ? static_cast<float>(10 - gate[i]) : gate[i];
      }
      kernels.activate(spec, gate.data(), up.data(), n, out.data());
      for (int64_t i = 0; i < n; ++i) {
        kernels.activate(spec, &gate[i], &up[i], 1, &single[i]);
        const double expected = oracle_activation(spec, gate[i], up[i]);
        // 1e-6 of the value, or 1e-10: in far tails the rounding of the exponent's argument shows.
        worst = std::max(worst, std::fabs(out[i] - expected) / (std::fabs(expected) + 1e-4));
      }
      const std::string text =
          "activation " + std::to_string(kind) + (gated ? ", gated" : ", not gated");
      CHECK_MESSAGE(worst <= 1e-6, text);
      check_same_bits(out, single, text + ": one value has the bits it has in a row");
      for (const float v : {1e10f, 1e20f, 3e38f}) {
        for (const float sign : {-1.0f, 1.0f}) {
          const float in = sign * v;
          const float one = 1;
          float got = NAN;
          kernels.activate(spec, &in, gated ? &one : &in, 1, &got);
          const float expected = static_cast<float>(oracle_activation(spec, in, gated ? 1 : in));
          const bool same = std::isinf(expected)
                                ? got == expected
                                : std::fabs(got - expected) <= std::fabs(expected) * 1e-6f + 1e-10f;
          CHECK_MESSAGE(same, text, ": a large value");
        }
      }
      std::vector<float> faults = {NAN, INFINITY};
      std::vector<float> ones = {1, 1};
      kernels.activate(spec, faults.data(), gated ? ones.data() : faults.data(), 1, faults.data());
      CHECK_MESSAGE(std::isnan(faults[0]), text, ": NaN stays NaN");
    }
  }
}

void test_gate(const Context& context, int32_t dtype, int32_t weight_dtype, int64_t hidden_size,
               int64_t num_experts) {
  Random random(hidden_size + num_experts);
  const int64_t num_tokens = 19;
  std::vector<char> hidden = random_bytes(&random, num_tokens * hidden_size, dtype, 1);
  std::vector<char> weight = random_bytes(&random, num_experts * hidden_size, weight_dtype, 1);
  std::vector<float> bias(num_experts);
  for (float& b : bias) b = static_cast<float>(random.normal());
  std::vector<float> logits(num_tokens * num_experts, NAN);
  SeGateArgs args{};
  args.hidden = tensor_of(hidden.data(), dtype, {num_tokens, hidden_size});
  args.router_weight = tensor_of(weight.data(), weight_dtype, {num_experts, hidden_size});
  args.bias = bias.data();
  args.router_logits = logits.data();
  SeStatus status{};
  CHECK_MESSAGE(context.backend->gate(context.device, &args, &status) == SE_OK, "gate runs");
  std::vector<double> expected;
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t e = 0; e < num_experts; ++e) {
      double z = bias[e];
      for (int64_t i = 0; i < hidden_size; ++i)
        z += element(hidden.data(), dtype, t * hidden_size + i) *
             element(weight.data(), weight_dtype, e * hidden_size + i);
      expected.push_back(z);
    }
  check_close(std::vector<double>(logits.begin(), logits.end()), expected, 2e-6, "gate");
}

void test_expert_matmul(const Context& context, int32_t dtype, bool gather, bool interleaved,
                        bool activate, bool gated) {
  Random random(dtype * 100 + gather * 8 + interleaved * 4 + activate * 2 + gated);
  const int64_t num_experts = 5, top_k = 3, num_tokens = 11, k = 45, n = 14;
  const int64_t num_slots = num_tokens * top_k;
  const int64_t rows = gated && activate ? 2 * n : n;
  const int64_t num_x = gather ? num_tokens : num_slots;
  std::vector<char> x = random_bytes(&random, num_x * (k + 3), SE_F32, 1);
  std::vector<char> weights = random_bytes(&random, num_experts * rows * k, dtype, 0.2);
  std::vector<float> bias(num_experts * rows);
  for (float& b : bias) b = static_cast<float>(random.normal());
  std::vector<int32_t> ids(num_slots), offsets(num_experts + 1, -9), sorted(num_slots, -9);
  for (int32_t& id : ids)
    id = static_cast<int32_t>(random.below(num_experts)) - (random.below(5) == 0 ? 1 : 0);
  for (int32_t& id : ids) id = id == 3 ? 2 : id;  // an expert without tokens
  SeStatus status{};
  SeDispatchArgs dispatch{num_slots, num_experts, ids.data(), offsets.data(), sorted.data()};
  CHECK_MESSAGE(context.backend->dispatch(context.device, &dispatch, &status) == SE_OK,
                "dispatch runs");
  Every ordered;
  ordered.equal(offsets[0], 0);
  for (int64_t e = 0; e < num_experts; ++e)
    for (int64_t i = offsets[e]; i < offsets[e + 1]; ++i)
      ordered.that(ids[sorted[i]] == e && (i == offsets[e] || sorted[i] > sorted[i - 1]));
  for (int64_t i = offsets[num_experts]; i < num_slots; ++i) ordered.equal(sorted[i], -1);
  ordered.check("dispatch");
  CHECK_MESSAGE(offsets[num_experts] == num_slots - std::count(ids.begin(), ids.end(), -1),
                "dispatch");

  std::vector<float> out(num_slots * (n + 2), NAN);
  SeExpertMatmulArgs args{};
  args.x = tensor_of(x.data(), SE_F32, {num_x, k});
  args.x.strides[0] = k + 3;
  args.weights = tensor_of(weights.data(), dtype, {num_experts, rows, k});
  args.bias = tensor_of(bias.data(), SE_F32, {num_experts, rows});
  args.num_slots = num_slots;
  args.top_k = top_k;
  args.gather = gather;
  args.interleaved = interleaved;
  args.apply_activation = activate;
  args.activation = {SE_SILU, gated, 1.702f, gated ? 1.0f : 0.0f, gated ? 2.0f : 0.0f};
  args.expert_offsets = offsets.data();
  args.sorted_slots = sorted.data();
  args.output = tensor_of(out.data(), SE_F32, {num_slots, n});
  args.output.strides[0] = n + 2;
  CHECK_MESSAGE(context.backend->expert_matmul(context.device, &args, &status) == SE_OK,
                "expert_matmul runs: ", std::string(status.message));
  std::vector<double> got, expected;
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    for (int64_t j = 0; j < n; ++j) {
      got.push_back(out[slot * (n + 2) + j]);
      const auto dot = [&](int64_t row) {
        double sum = bias[ids[slot] * rows + row];
        for (int64_t i = 0; i < k; ++i)
          sum += element(weights.data(), dtype, (ids[slot] * rows + row) * k + i) *
                 element(x.data(), SE_F32, (gather ? slot / top_k : slot) * (k + 3) + i);
        return sum;
      };
      double value = 0;
      if (ids[slot] >= 0 && activate && gated) {
        value = oracle_activation(args.activation, dot(interleaved ? 2 * j : j),
                                  dot(interleaved ? 2 * j + 1 : n + j));
      } else if (ids[slot] >= 0) {
        value = activate ? oracle_activation(args.activation, 0, dot(j)) : dot(j);
      }
      expected.push_back(value);
    }
  }
  check_close(got, expected, layer_bound(dtype), "expert_matmul");
}

void test_combine(const Context& context, int32_t dtype) {
  Random random(dtype + 77);
  const int64_t num_tokens = 9, top_k = 4, hidden_size = 1100;
  std::vector<char> rows = random_bytes(&random, num_tokens * top_k * hidden_size, SE_F32, 1);
  std::vector<int32_t> ids(num_tokens * top_k);
  std::vector<float> weights(num_tokens * top_k);
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(random.below(4)) - 1;
    weights[i] = static_cast<float>(random.uniform());
    if (ids[i] < 0) std::fill_n(rows.begin() + i * hidden_size * 4, hidden_size * 4, '\xff');
  }
  std::vector<char> out(num_tokens * hidden_size * (dtype == SE_F32 ? 4 : 2), '\xff');
  SeCombineArgs args{};
  args.expert_output = tensor_of(rows.data(), SE_F32, {num_tokens * top_k, hidden_size});
  args.num_tokens = num_tokens;
  args.top_k = top_k;
  args.topk_ids = ids.data();
  args.topk_weights = weights.data();
  args.output = tensor_of(out.data(), dtype, {num_tokens, hidden_size});
  SeStatus status{};
  CHECK_MESSAGE(context.backend->combine(context.device, &args, &status) == SE_OK, "combine runs");
  std::vector<double> got, expected;
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t i = 0; i < hidden_size; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < top_k; ++k)
        if (ids[t * top_k + k] >= 0)
          sum += weights[t * top_k + k] *
                 element(rows.data(), SE_F32, (t * top_k + k) * hidden_size + i);
      expected.push_back(sum);
      got.push_back(element(out.data(), dtype, t * hidden_size + i));
    }
  check_close(got, expected, layer_bound(dtype), "combine");

  // The same slots by a dispatch instead of by ids: the same bits.
  std::vector<int32_t> offsets(4), slots(ids.size());
  SeDispatchArgs dispatch{};
  dispatch.num_slots = num_tokens * top_k;
  dispatch.num_experts = 3;
  dispatch.topk_ids = ids.data();
  dispatch.expert_offsets = offsets.data();
  dispatch.sorted_slots = slots.data();
  context.backend->dispatch(context.device, &dispatch, &status);
  std::vector<char> listed(out.size(), '\xff');
  args.topk_ids = nullptr;
  args.expert_offsets = offsets.data();
  args.sorted_slots = slots.data();
  args.num_experts = 3;
  args.output.data = listed.data();
  CHECK_MESSAGE(context.backend->combine(context.device, &args, &status) == SE_OK,
                "combine by a dispatch");
  CHECK_MESSAGE(listed == out, "combine by a dispatch");
  const int32_t listed_slots = offsets[3];
  offsets[3] = static_cast<int32_t>(slots.size()) + 1;
  CHECK_MESSAGE(context.backend->combine(context.device, &args, &status) == SE_INVALID_ARGUMENT,
                "combine refuses offsets beyond the slots");
  offsets[3] = listed_slots;
  slots[0] = -1;
  CHECK_MESSAGE(context.backend->combine(context.device, &args, &status) == SE_INVALID_ARGUMENT,
                "combine refuses slots that do not exist");
}

TEST_CASE("gate, expert_matmul and combine") {
  const Context& context = current();
  const std::vector<int32_t> dtypes = {SE_F32, SE_F16, SE_BF16};
  for (const int32_t dtype : dtypes)
    for (const int32_t weight_dtype : dtypes)
      for (const int64_t hidden_size : {1, 17, 64, 1408})
        test_gate(context, dtype, weight_dtype, hidden_size, 31);
  for (const int32_t dtype : dtypes) {
    for (int flags = 0; flags < 16; ++flags)
      test_expert_matmul(context, dtype, flags & 1, flags & 2, flags & 4, flags & 8);
    test_combine(context, dtype);
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
