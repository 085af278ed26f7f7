// The stage ops on device memory: against plain double precision, and what they refuse to run on.
#include <algorithm>
#include <climits>
#include <string>
#include <vector>

#include "cases.h"
#include "core/dtype.h"
#include "cpp/check.h"
#include "cuda/device_layer.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("abi");

const SeBackend& backend() { return *se_backend_entry(); }

// `status` by reference: its text is read after the call that fills it.
void check_code(int32_t code, int32_t expected, const SeStatus& status, const std::string& what) {
  CHECK_MESSAGE(code == expected, what, ": ", std::string(status.message));
}

void test_gate(SeDevice* device, int32_t dtype, int32_t weight_dtype, int64_t hidden_size,
               int64_t num_experts) {
  Random random(hidden_size + num_experts);
  const int64_t num_tokens = 13, stride = hidden_size + 3;
  std::vector<char> hidden = random_bytes(&random, num_tokens * stride, dtype, 1);
  std::vector<char> weight = random_bytes(&random, num_experts * hidden_size, weight_dtype, 1);
  std::vector<float> bias(num_experts);
  for (float& b : bias) b = static_cast<float>(random.normal());
  const DeviceMemory device_hidden = to_device(device, hidden);
  const DeviceMemory device_weight = to_device(device, weight);
  const DeviceMemory device_bias = to_device(device, bias);
  const DeviceMemory logits(device, num_tokens * num_experts * 4);
  SeGateArgs args{};
  args.hidden = tensor_of(device_hidden.as<>(), dtype, {num_tokens, hidden_size});
  args.hidden.strides[0] = stride;
  args.router_weight = tensor_of(device_weight.as<>(), weight_dtype, {num_experts, hidden_size});
  args.bias = device_bias.as<float>();
  args.router_logits = logits.as<float>();
  SeStatus status{};
  check_code(backend().gate(device, &args, &status), SE_OK, status, "gate");
  std::vector<double> expected;
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t e = 0; e < num_experts; ++e) {
      double z = bias[e];
      for (int64_t i = 0; i < hidden_size; ++i)
        z += element(hidden.data(), dtype, t * stride + i) *
             element(weight.data(), weight_dtype, e * hidden_size + i);
      expected.push_back(z);
    }
  const std::vector<float> got = logits.download_as<float>();
  check_close(std::vector<double>(got.begin(), got.end()), expected, 2e-6, "gate");
}

TEST_CASE("select") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  Random random(5);
  const int64_t num_tokens = 21, num_experts = 24, top_k = 4;
  std::vector<float> logits(num_tokens * num_experts);
  for (float& z : logits) z = static_cast<float>(random.normal() * 2);
  std::vector<float> bias(num_experts);
  for (float& b : bias) b = static_cast<float>(random.normal() * 0.4);
  SeRouting routing{};
  routing.scoring = SE_SIGMOID;
  routing.num_experts = num_experts;
  routing.top_k = top_k;
  routing.num_expert_groups = 4;
  routing.topk_group = 2;
  routing.group_score = SE_GROUP_TOP2_SUM;
  routing.normalization = SE_NORM_SUM;
  routing.scaling_factor = 2.5;
  routing.selection_bias = bias.data();
  std::vector<uint8_t> row_top_k(num_tokens);
  for (uint8_t& k : row_top_k) k = static_cast<uint8_t>(random.below(top_k + 1));
  SeSelectArgs args{};
  args.num_tokens = num_tokens;
  args.row_top_k = row_top_k.data();
  args.call_top_k = top_k;
  args.top_p = 1;
  const OracleRouting expected =
      oracle_select(routing, args, std::vector<double>(logits.begin(), logits.end()));
  const DeviceMemory device_logits = to_device(device, logits);
  const DeviceMemory device_bias = to_device(device, bias);
  const DeviceMemory device_rows = to_device(device, row_top_k);
  const DeviceMemory ids(device, num_tokens * top_k * 4);
  const DeviceMemory weights(device, num_tokens * top_k * 4);
  const DeviceMemory flags(device, num_tokens);
  routing.selection_bias = device_bias.as<float>();
  args.router_logits = device_logits.as<float>();
  args.row_top_k = device_rows.as<uint8_t>();
  args.topk_ids = ids.as<int32_t>();
  args.topk_weights = weights.as<float>();
  args.non_finite = flags.as<uint8_t>();
  SeStatus status{};
  check_code(backend().select_experts(device, &routing, &args, &status), SE_OK, status, "select");
  CHECK_MESSAGE(ids.download_as<int32_t>() == expected.ids, "select: ids");
  const std::vector<float> got = weights.download_as<float>();
  check_close(std::vector<double>(got.begin(), got.end()), expected.weights, 2e-7,
              "select: weights");
  CHECK_MESSAGE(flags.download_as<uint8_t>() == std::vector<uint8_t>(num_tokens, 0),
                "select: flags");

  row_top_k[17] = 5;
  device_rows.upload(row_top_k.data(), row_top_k.size());
  CHECK_MESSAGE(
      (backend().select_experts(device, &routing, &args, &status) == SE_INVALID_ARGUMENT &&
       std::strstr(status.message, "17") != nullptr),
      "select: k of a row above top_k: ", std::string(status.message));
  args.row_top_k = nullptr;
  const std::vector<int32_t> lengths = {10, 10};
  const DeviceMemory device_lengths = to_device(device, lengths);
  args.sequence_lengths = device_lengths.as<int32_t>();
  args.num_sequences = 2;
  CHECK_MESSAGE(backend().select_experts(device, &routing, &args, &status) == SE_INVALID_ARGUMENT,
                "select: sequences that do not sum to the tokens");
}

struct MatmulCase {
  int32_t dtype;
  int32_t x_dtype;
  bool gather, interleaved, activate, gated, spread;
};

void test_expert_matmul(SeDevice* device, const MatmulCase& c) {
  Random random(c.dtype * 100 + c.gather * 8 + c.interleaved * 4 + c.activate * 2 + c.gated);
  const int64_t num_experts = 5, top_k = 3, num_tokens = 11, k = 45, n = 14;
  const int64_t num_slots = num_tokens * top_k;
  const int64_t rows = c.gated && c.activate ? 2 * n : n;
  const int64_t num_x = c.gather ? num_tokens : num_slots;
  const int64_t x_stride = k + (c.spread ? 3 : 0), out_stride = n + (c.spread ? 2 : 0);
  const std::vector<char> x = random_bytes(&random, num_x * x_stride, c.x_dtype, 1);
  const std::vector<char> weights = random_bytes(&random, num_experts * rows * k, c.dtype, 0.2);
  std::vector<float> bias(num_experts * rows);
  for (float& b : bias) b = static_cast<float>(random.normal());
  std::vector<int32_t> ids(num_slots);
  for (int32_t& id : ids)
    id = static_cast<int32_t>(random.below(num_experts)) - (random.below(5) == 0 ? 1 : 0);
  for (int32_t& id : ids) id = id == 3 ? 2 : id;  // an expert without tokens
  const DeviceMemory device_ids = to_device(device, ids);
  const DeviceMemory device_offsets(device, (num_experts + 1) * 4);
  const DeviceMemory device_sorted(device, num_slots * 4);
  SeStatus status{};
  SeDispatchArgs dispatch{num_slots, num_experts, device_ids.as<int32_t>(),
                          device_offsets.as<int32_t>(), device_sorted.as<int32_t>()};
  check_code(backend().dispatch(device, &dispatch, &status), SE_OK, status, "dispatch");
  const std::vector<int32_t> offsets = device_offsets.download_as<int32_t>();
  const std::vector<int32_t> sorted = device_sorted.download_as<int32_t>();
  Every ordered;
  ordered.equal(offsets[0], 0);
  for (int64_t e = 0; e < num_experts; ++e)
    for (int64_t i = offsets[e]; i < offsets[e + 1]; ++i)
      ordered.that(ids[sorted[i]] == e && (i == offsets[e] || sorted[i] > sorted[i - 1]));
  for (int64_t i = offsets[num_experts]; i < num_slots; ++i) ordered.equal(sorted[i], -1);
  ordered.check("dispatch");
  CHECK_MESSAGE(offsets[num_experts] == num_slots - std::count(ids.begin(), ids.end(), -1),
                "dispatch");

  const DeviceMemory device_x = to_device(device, x);
  const DeviceMemory device_weights = to_device(device, weights);
  const DeviceMemory device_bias = to_device(device, bias);
  const DeviceMemory device_out(device, num_slots * out_stride * 4);
  SeExpertMatmulArgs args{};
  args.x = tensor_of(device_x.as<>(), c.x_dtype, {num_x, k});
  args.x.strides[0] = x_stride;
  args.weights = tensor_of(device_weights.as<>(), c.dtype, {num_experts, rows, k});
  args.bias = tensor_of(device_bias.as<>(), SE_F32, {num_experts, rows});
  args.num_slots = num_slots;
  args.top_k = c.gather ? top_k : 0;
  args.gather = c.gather;
  args.interleaved = c.interleaved;
  args.apply_activation = c.activate;
  args.activation = {SE_SILU, c.gated, 1.702f, c.gated ? 1.0f : 0.0f, c.gated ? 2.0f : 0.0f};
  args.expert_offsets = device_offsets.as<int32_t>();
  args.sorted_slots = device_sorted.as<int32_t>();
  args.output = tensor_of(device_out.as<>(), SE_F32, {num_slots, n});
  args.output.strides[0] = out_stride;
  check_code(backend().expert_matmul(device, &args, &status), SE_OK, status, "expert_matmul");
  const std::vector<float> out = device_out.download_as<float>();
  std::vector<double> got, expected;
  Every gaps;
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    for (int64_t j = n; j < out_stride; ++j) gaps.that(std::isnan(out[slot * out_stride + j]));
    for (int64_t j = 0; j < n; ++j) {
      got.push_back(out[slot * out_stride + j]);
      const auto dot = [&](int64_t row) {
        double sum = bias[ids[slot] * rows + row];
        for (int64_t i = 0; i < k; ++i)
          sum += element(weights.data(), c.dtype, (ids[slot] * rows + row) * k + i) *
                 element(x.data(), c.x_dtype, (c.gather ? slot / top_k : slot) * x_stride + i);
        return sum;
      };
      double value = 0;
      if (ids[slot] >= 0 && c.activate && c.gated) {
        value = oracle_activation(args.activation, dot(c.interleaved ? 2 * j : j),
                                  dot(c.interleaved ? 2 * j + 1 : n + j));
      } else if (ids[slot] >= 0) {
        value = c.activate ? oracle_activation(args.activation, 0, dot(j)) : dot(j);
      }
      expected.push_back(value);
    }
  }
  gaps.check("expert_matmul: what lies between rows is not written");
  check_close(got, expected, layer_bound(c.dtype), "expert_matmul");
}

void test_combine(SeDevice* device, int32_t dtype, bool listed, bool spread) {
  Random random(dtype + 77);
  const int64_t num_tokens = 9, top_k = 4, hidden_size = 300, num_experts = 3;
  const int64_t num_slots = num_tokens * top_k, stride = hidden_size + (spread ? 4 : 0);
  std::vector<char> rows = random_bytes(&random, num_slots * stride, SE_F32, 1);
  std::vector<int32_t> ids(num_slots);
  std::vector<float> weights(num_slots);
  for (int64_t i = 0; i < num_slots; ++i) {
    ids[i] = static_cast<int32_t>(random.below(4)) - 1;
    weights[i] = static_cast<float>(random.uniform());
    if (ids[i] < 0) std::fill_n(rows.begin() + i * stride * 4, stride * 4, '\xff');
  }
  const DeviceMemory device_rows = to_device(device, rows);
  const DeviceMemory device_ids = to_device(device, ids);
  const DeviceMemory device_weights = to_device(device, weights);
  const DeviceMemory out(device, num_tokens * hidden_size * sparse_experts::dtype_bytes(dtype));
  const DeviceMemory offsets(device, (num_experts + 1) * 4);
  const DeviceMemory sorted(device, num_slots * 4);
  SeStatus status{};
  SeCombineArgs args{};
  args.expert_output = tensor_of(device_rows.as<>(), SE_F32, {num_slots, hidden_size});
  args.expert_output.strides[0] = stride;
  args.num_tokens = num_tokens;
  args.top_k = top_k;
  args.topk_weights = device_weights.as<float>();
  args.output = tensor_of(out.as<>(), dtype, {num_tokens, hidden_size});
  if (listed) {
    SeDispatchArgs dispatch{num_slots, num_experts, device_ids.as<int32_t>(), offsets.as<int32_t>(),
                            sorted.as<int32_t>()};
    CHECK_MESSAGE(backend().dispatch(device, &dispatch, &status) == SE_OK,
                  "dispatch before combine");
    args.expert_offsets = offsets.as<int32_t>();
    args.sorted_slots = sorted.as<int32_t>();
    args.num_experts = num_experts;
  } else {
    args.topk_ids = device_ids.as<int32_t>();
  }
  check_code(backend().combine(device, &args, &status), SE_OK, status, "combine");
  const std::vector<char> bytes = out.download();
  std::vector<double> got, expected;
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t i = 0; i < hidden_size; ++i) {
      double sum = 0;
      for (int64_t slot = t * top_k; slot < (t + 1) * top_k; ++slot)
        if (ids[slot] >= 0) sum += weights[slot] * element(rows.data(), SE_F32, slot * stride + i);
      expected.push_back(sum);
      got.push_back(element(bytes.data(), dtype, t * hidden_size + i));
    }
  check_close(got, expected, layer_bound(dtype), "combine");
}

// Arrays that would lead outside of others are refused before anything runs.
TEST_CASE("refused") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  const int64_t num_slots = 6, num_experts = 3, k = 8, n = 4;
  Random random(4);
  SeStatus status{};
  const DeviceMemory out(device, num_slots * n * 4);
  const DeviceMemory x = to_device(device, random_bytes(&random, num_slots * k, SE_F32, 1));
  const DeviceMemory weights =
      to_device(device, random_bytes(&random, num_experts * n * k, SE_F32, 1));
  const DeviceMemory offsets(device, (num_experts + 1) * 4);
  const DeviceMemory sorted(device, num_slots * 4);
  const auto poisoned = [&] {
    const std::vector<char> bytes = out.download();
    return bytes == std::vector<char>(bytes.size(), '\xff');
  };
  for (const int32_t id : {3, -2, INT_MAX, INT_MIN}) {
    std::vector<int32_t> ids = {0, 1, 2, 0, id, 1};
    const DeviceMemory device_ids = to_device(device, ids);
    SeDispatchArgs dispatch{num_slots, num_experts, device_ids.as<int32_t>(), offsets.as<int32_t>(),
                            sorted.as<int32_t>()};
    CHECK_MESSAGE(backend().dispatch(device, &dispatch, &status) == SE_INVALID_ARGUMENT,
                  "dispatch refuses: ", std::string(status.message));
    CHECK_MESSAGE(std::strstr(status.message, "slot 4") != nullptr,
                  "dispatch refuses: ", std::string(status.message));
  }
  SeExpertMatmulArgs args{};
  args.x = tensor_of(x.as<>(), SE_F32, {num_slots, k});
  args.weights = tensor_of(weights.as<>(), SE_F32, {num_experts, n, k});
  args.num_slots = num_slots;
  args.expert_offsets = offsets.as<int32_t>();
  args.sorted_slots = sorted.as<int32_t>();
  args.output = tensor_of(out.as<>(), SE_F32, {num_slots, n});
  SeCombineArgs combine{};
  combine.expert_output = tensor_of(x.as<>(), SE_F32, {num_slots, k});
  combine.num_tokens = num_slots;
  combine.top_k = 1;
  combine.expert_offsets = args.expert_offsets;
  combine.sorted_slots = args.sorted_slots;
  combine.num_experts = num_experts;
  combine.topk_weights = x.as<float>();
  const DeviceMemory sums(device, num_slots * k * 4);
  combine.output = tensor_of(sums.as<>(), SE_F32, {num_slots, k});
  struct Bad {
    std::vector<int32_t> offsets, slots;
    const char* what;
  };
  const std::vector<Bad> cases = {
      {{1, 2, 4, 6}, {0, 1, 2, 3, 4, 5}, "offsets that do not begin with 0"},
      {{0, 4, 2, 6}, {0, 1, 2, 3, 4, 5}, "offsets that fall"},
      {{0, 2, 4, 7}, {0, 1, 2, 3, 4, 5}, "offsets beyond the slots"},
      {{0, -1, 4, 6}, {0, 1, 2, 3, 4, 5}, "a negative offset"},
      {{0, 2, 4, 6}, {0, 1, 2, 3, 4, 6}, "a slot beyond the others"},
      {{0, 2, 4, 6}, {0, 1, -1, 3, 4, 5}, "a negative slot"},
      {{0, 2, 4, 6}, {0, 1, 2, 3, 4, 2}, "a slot that stands twice"},
  };
  for (const Bad& bad : cases) {
    offsets.upload(bad.offsets.data(), bad.offsets.size() * 4);
    sorted.upload(bad.slots.data(), bad.slots.size() * 4);
    CHECK_MESSAGE(
        (backend().expert_matmul(device, &args, &status) == SE_INVALID_ARGUMENT && poisoned()),
        "expert_matmul refuses ", std::string(bad.what), ": ", std::string(status.message));
    CHECK_MESSAGE(backend().combine(device, &combine, &status) == SE_INVALID_ARGUMENT,
                  "combine refuses ", std::string(bad.what), ": ", std::string(status.message));
  }
  // What lies behind the listed slots is never looked at.
  const std::vector<int32_t> good_offsets = {0, 2, 2, 4};
  const std::vector<int32_t> good_slots = {5, 1, 0, 3, 99, -7};
  offsets.upload(good_offsets.data(), good_offsets.size() * 4);
  sorted.upload(good_slots.data(), good_slots.size() * 4);
  CHECK_MESSAGE((backend().expert_matmul(device, &args, &status) == SE_OK && !poisoned()),
                "expert_matmul takes a good list: ", std::string(status.message));
  check_code(backend().combine(device, &combine, &status), SE_OK, status,
             "combine takes a good list");
}

// Nothing to do, or nothing to sum: no launch may trip over it.
TEST_CASE("empty") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  SeStatus status{};
  const std::vector<float> bias = {1, -2, 3};
  const DeviceMemory device_bias = to_device(device, bias);
  const DeviceMemory device_offsets(device, 3 * 4);
  const DeviceMemory out(device, 4 * 3 * 4);
  SeExpertMatmulArgs args{};
  args.x = tensor_of(nullptr, SE_F32, {4, 0});
  args.weights = tensor_of(nullptr, SE_F32, {2, 3, 0});
  args.num_slots = 4;
  args.expert_offsets = device_offsets.as<int32_t>();
  args.sorted_slots = out.as<int32_t>();
  args.output = tensor_of(out.as<>(), SE_F32, {4, 3});
  CHECK_MESSAGE(backend().expert_matmul(device, &args, &status) == SE_INVALID_ARGUMENT,
                "expert_matmul without inputs is refused");
  args.num_slots = 0;
  args.x = tensor_of(nullptr, SE_F32, {0, 5});
  args.weights = tensor_of(out.as<>(), SE_F32, {2, 1, 5});
  args.bias = SeTensor{};
  args.output = tensor_of(nullptr, SE_F32, {0, 1});
  const std::vector<int32_t> zeros = {0, 0, 0};
  device_offsets.upload(zeros.data(), 12);
  check_code(backend().expert_matmul(device, &args, &status), SE_OK, status,
             "expert_matmul without slots");
  SeDispatchArgs dispatch{0, 2, nullptr, device_offsets.as<int32_t>(), nullptr};
  const std::vector<int32_t> poison = {-1, -1, -1};
  device_offsets.upload(poison.data(), 12);
  CHECK_MESSAGE(backend().dispatch(device, &dispatch, &status) == SE_OK, "dispatch without slots");
  CHECK_MESSAGE(device_offsets.download_as<int32_t>() == zeros, "dispatch without slots");
  SeGateArgs gate{};
  gate.hidden = tensor_of(nullptr, SE_F32, {2, 0});
  gate.router_weight = tensor_of(nullptr, SE_F32, {3, 0});
  gate.bias = device_bias.as<float>();
  gate.router_logits = out.as<float>();
  check_code(backend().gate(device, &gate, &status), SE_OK, status, "gate without inputs");
  const std::vector<float> logits = out.download_as<float>();
  CHECK_MESSAGE(std::vector<float>(logits.begin(), logits.begin() + 6) ==
                    std::vector<float>({1, -2, 3, 1, -2, 3}),
                "without inputs the bias is left: gate");
  SeCombineArgs combine{};
  combine.expert_output = tensor_of(nullptr, SE_F32, {0, 7});
  combine.top_k = 2;
  combine.output = tensor_of(nullptr, SE_F32, {0, 7});
  CHECK_MESSAGE(backend().combine(device, &combine, &status) == SE_OK, "combine without tokens");
  SeRouting routing{};
  routing.num_experts = 4;
  routing.top_k = routing.num_expert_groups = 1;
  SeSelectArgs select{};
  select.top_p = 1;
  check_code(backend().select_experts(device, &routing, &select, &status), SE_OK, status,
             "select without tokens");
}

TEST_CASE("backend") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  const std::vector<int32_t> dtypes = {SE_F32, SE_F16, SE_BF16};
  for (const int32_t dtype : dtypes) {
    for (const int32_t weight_dtype : dtypes)
      for (const int64_t hidden_size : {1, 17, 264})
        test_gate(device, dtype, weight_dtype, hidden_size, 31);
    for (int flags = 0; flags < 16; ++flags)
      test_expert_matmul(
          device, {dtype, flags % 3 == 0 ? SE_F32 : dtype, (flags & 1) != 0, (flags & 2) != 0,
                   (flags & 4) != 0, (flags & 8) != 0, flags % 2 == 0});
    test_combine(device, dtype, false, false);
    test_combine(device, dtype, true, true);
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
