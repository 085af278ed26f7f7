// The CUDA backend through its ABI: whole layers against the double-precision oracle, and the rules
// about bits: rows, waves, graphs, shards.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "cases.h"
#include "core/dtype.h"
#include "cpp/check.h"
#include "cuda/context.h"
#include "cuda/device_layer.h"
#include "cuda/runtime/availability.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("backend");

const char* dtype_text(int32_t dtype) {
  return dtype == SE_F32 ? " f32" : dtype == SE_F16 ? " f16" : " bf16";
}

std::vector<char> random_hidden(LayerFixture* fixture, int64_t num_tokens, int32_t dtype) {
  return random_bytes(&fixture->random, num_tokens * fixture->layer.hidden_size, dtype, 1);
}

void check_against_oracle(const LayerFixture& fixture, const ForwardCall& call,
                          const ForwardResult& result, const std::string& what) {
  const int32_t hidden_dtype = call.args.hidden.dtype;
  check_close(
      result.values(hidden_dtype),
      oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data()),
      layer_bound(fixture.layer.experts.dtype) + output_rounding(hidden_dtype), what);
}

void run_case(SeDevice* device, LayerOptions options, const std::string& name, int64_t num_tokens,
              int32_t hidden_dtype) {
  static uint64_t seed = 0;
  options.seed = ++seed;
  LayerFixture fixture(options);
  const std::vector<char> hidden = random_hidden(&fixture, num_tokens, hidden_dtype);
  const ForwardCall call(fixture, hidden, hidden_dtype);
  const DeviceLayer layer(device, fixture.layer);
  const ForwardResult result = run_on_device(layer, call);
  const std::string what = "cuda forward " + name + dtype_text(options.dtype) + " of" +
                           dtype_text(hidden_dtype) + " T=" + std::to_string(num_tokens);
  if (!CHECK_MESSAGE(result.code == SE_OK, what, ": ", std::string(result.status.message))) return;
  const OracleRouting routing = oracle_select(fixture.layer.routing, call.args.select,
                                              oracle_logits(fixture.layer, call.args.hidden));
  Every same;
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t k = 0; k < options.top_k; ++k)
      same.that((routing.margins[t] <= kSelectionMargin ||
                 result.ids[t * options.top_k + k] == routing.ids[t * options.top_k + k]));
  same.check(what + ": ids");
  check_against_oracle(fixture, call, result, what);
  CHECK_MESSAGE(
      std::all_of(result.flags.begin(), result.flags.end(), [](uint8_t f) { return f == 0; }), what,
      ": flags");
}

LayerOptions kind_of(const std::string& name) {
  for (const auto& [kind, options] : layer_kinds())
    if (kind == name) return options;
  FAIL("no kind ", name);
  return {};
}

// All of it under the first schedule; under the others what depends on the order of threads.
TEST_CASE("whole layers against the oracle") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  const bool all = is_first_schedule();
  for (const auto& [name, kind] : layer_kinds()) {
    for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
      LayerOptions options = kind;
      options.dtype = dtype;
      if (!all) {
        run_case(device, options, name, 5, dtype == SE_F16 ? SE_F32 : dtype);
        continue;
      }
      for (const int64_t num_tokens : {0, 1, 7, 40})
        run_case(device, options, name, num_tokens, SE_F32);
      if (dtype != SE_F32) run_case(device, options, name, 13, dtype);
    }
  }
}

// A shared expert of another dtype or activation than the routed ones has launches of its own.
TEST_CASE("a shared expert unlike the routed ones" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  LayerOptions options;
  options.shared = 40;
  options.dtype = SE_BF16;
  LayerFixture routed(options);
  options.dtype = SE_F32;
  options.seed = 77;
  LayerFixture other(options);
  routed.layer.shared = other.layer.shared;
  const std::vector<char> hidden = random_hidden(&routed, 9, SE_F16);
  const ForwardCall call(routed, hidden, SE_F16);
  ForwardResult result = run_on_device(DeviceLayer(device, routed.layer), call);
  CHECK_MESSAGE(result.code == SE_OK,
                "shared expert of another dtype: ", std::string(result.status.message));
  check_against_oracle(routed, call, result, "shared expert of another dtype");
  other.layer.shared.activation.kind = SE_GELU;
  const std::vector<char> wide = random_hidden(&other, 9, SE_F32);
  const ForwardCall gelu(other, wide, SE_F32);
  result = run_on_device(DeviceLayer(device, other.layer), gelu);
  CHECK_MESSAGE(result.code == SE_OK, "shared expert of another activation");
  check_against_oracle(other, gelu, result, "shared expert of another activation");
}

ForwardResult forward_rows(const DeviceLayer& layer, const LayerFixture& fixture,
                           const std::vector<char>& hidden, int32_t dtype) {
  return run_on_device(layer, ForwardCall(fixture, hidden, dtype));
}

bool equals_rows(const ForwardResult& part, const ForwardResult& whole, int64_t first,
                 int64_t count, int64_t row_bytes, int64_t top_k) {
  return part.code == SE_OK &&
         std::memcmp(part.output.data(), whole.output.data() + first * row_bytes,
                     count * row_bytes) == 0 &&
         std::memcmp(part.weights.data(), whole.weights.data() + first * top_k,
                     count * top_k * 4) == 0;
}

// Rows alone and small batches give the bits of the largest batch.
void test_rows(SeDevice* device, const std::string& kind, int32_t dtype) {
  LayerOptions options = kind_of(kind);
  options.dtype = dtype;
  LayerFixture fixture(options);
  const int64_t most = 70;
  const int64_t row_bytes = options.hidden_size * sparse_experts::dtype_bytes(dtype);
  const std::vector<char> hidden = random_hidden(&fixture, most, dtype);
  const DeviceLayer layer(device, fixture.layer, 1);
  const ForwardResult whole = forward_rows(layer, fixture, hidden, dtype);
  const std::string what = "cuda bits of " + kind + dtype_text(dtype);
  if (!CHECK_MESSAGE(whole.code == SE_OK, what, ": ", std::string(whole.status.message))) return;
  const ForwardResult again = forward_rows(layer, fixture, hidden, dtype);
  check_same_bits(again.output, whole.output, what + ": the same again");
  check_same_bits(again.ids, whole.ids, what + ": the same again");
  check_same_bits(again.weights, whole.weights, what + ": the same again");
  Every alone;
  for (int64_t t = 0; t < most; t += 3)
    alone.that(equals_rows(
        forward_rows(layer, fixture,
                     {hidden.begin() + t * row_bytes, hidden.begin() + (t + 1) * row_bytes}, dtype),
        whole, t, 1, row_bytes, options.top_k));
  alone.check(what + ": each row alone");
  Every batches;
  for (const int64_t m : {2, 7, 8, 9, 16, 17, 33, 64})
    batches.that(equals_rows(
        forward_rows(layer, fixture, {hidden.end() - m * row_bytes, hidden.end()}, dtype), whole,
        most - m, m, row_bytes, options.top_k));
  batches.check(what + ": batches");
}

// More tokens than a wave or a chunk holds: the same bits.
TEST_CASE("waves" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  const OpenDevice small("SPARSE_EXPERTS_CUDA_WAVE_BYTES", "65536");
  for (const char* kind : {"shared mix", "latent", "weight on input", "identity"}) {
    LayerOptions options = kind_of(kind);
    options.dtype = SE_BF16;
    LayerFixture fixture(options);
    const std::vector<char> hidden = random_hidden(&fixture, 200, SE_F32);
    const ForwardCall call(fixture, hidden, SE_F32);
    const DeviceLayer in_waves(small.get(), fixture.layer, 1);
    const DeviceLayer at_once(device, fixture.layer, 1);
    const ForwardResult waves = run_on_device(in_waves, call);
    const ForwardResult whole = run_on_device(at_once, call);
    CHECK_MESSAGE(waves.code == SE_OK, "waves change no bit: ", std::string(kind));
    CHECK_MESSAGE(whole.code == SE_OK, "waves change no bit: ", std::string(kind));
    check_same_bits(waves.output, whole.output, std::string("waves change no bit: ") + kind);
    check_same_bits(waves.ids, whole.ids, std::string("waves change no bit: ") + kind);
    const uint64_t ceiling = workspace_bytes_of(in_waves, 1 << 20);
    CHECK_MESSAGE(workspace_bytes_of(in_waves, 200) <= ceiling,
                  "the workspace has a ceiling: ", std::string(kind));
    CHECK_MESSAGE(workspace_bytes_of(in_waves, 1) <= workspace_bytes_of(in_waves, 200),
                  "the workspace has a ceiling: ", std::string(kind));
    CHECK_MESSAGE(ceiling <= (uint64_t{80} << 20),
                  "the workspace has a ceiling: ", std::string(kind));
    SeForwardDescription text{};
    se_backend_entry()->describe_forward(small.get(), &in_waves.description(), &in_waves.options(),
                                         200, &text);
    CHECK_MESSAGE(std::strstr(text.dispatch, "waves") != nullptr,
                  "described: ", std::string(text.dispatch));
    CHECK_MESSAGE(text.gate[0] != '\0', "described: ", std::string(text.dispatch));
    CHECK_MESSAGE(text.select[0] != '\0', "described: ", std::string(text.dispatch));
    CHECK_MESSAGE(text.gate_up[0] != '\0', "described: ", std::string(text.dispatch));
    CHECK_MESSAGE(text.down[0] != '\0', "described: ", std::string(text.dispatch));
    CHECK_MESSAGE(text.combine[0] != '\0', "described: ", std::string(text.dispatch));
  }
}

// A call whose arrays do not fit the layer's own staging gives the bits of smaller ones.
TEST_CASE("a large call" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  LayerOptions options;
  options.hidden_size = 2048, options.intermediate = 8, options.num_experts = 4, options.top_k = 1;
  LayerFixture fixture(options);
  const int64_t row_bytes = options.hidden_size * 4;
  const std::vector<char> hidden = random_hidden(&fixture, 530, SE_F32);
  const DeviceLayer layer(device, fixture.layer, 1);
  const ForwardResult whole = forward_rows(layer, fixture, hidden, SE_F32);
  if (!CHECK_MESSAGE(whole.code == SE_OK, "a large call: ", std::string(whole.status.message)))
    return;
  Every same;
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 3}, {263, 2}, {525, 5}})
    same.that(equals_rows(forward_rows(layer, fixture,
                                       {hidden.begin() + first * row_bytes,
                                        hidden.begin() + (first + count) * row_bytes},
                                       SE_F32),
                          whole, first, count, row_bytes, 1));
  same.check("a large call gives the bits of small ones");
}

// Hidden, router input and output in device memory, with rows that lie apart.
TEST_CASE("arrays on the device" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  LayerFixture fixture(kind_of("identity"));
  const int64_t num_tokens = 11, hidden_size = fixture.layer.hidden_size, stride = hidden_size + 6;
  const DeviceLayer layer(device, fixture.layer);
  for (const int32_t dtype : {SE_F32, SE_BF16}) {
    const int64_t bytes = sparse_experts::dtype_bytes(dtype);
    const std::vector<char> hidden = random_hidden(&fixture, num_tokens, dtype);
    const std::vector<char> router = random_hidden(&fixture, num_tokens, dtype);
    ForwardCall call(fixture, hidden, dtype);
    call.args.router_input =
        tensor_of(const_cast<char*>(router.data()), dtype, {num_tokens, hidden_size});
    const ForwardResult on_host = run_on_device(layer, call);
    const auto spread = [&](const std::vector<char>& rows) {
      std::vector<char> out(num_tokens * stride * bytes, '\xff');
      for (int64_t t = 0; t < num_tokens; ++t)
        std::memcpy(out.data() + t * stride * bytes, rows.data() + t * hidden_size * bytes,
                    hidden_size * bytes);
      return out;
    };
    const DeviceMemory device_hidden = to_device(device, spread(hidden));
    const DeviceMemory device_router = to_device(device, spread(router));
    const DeviceMemory device_output(device, num_tokens * stride * bytes);
    call.args.device_arrays = SE_ARRAY_HIDDEN | SE_ARRAY_ROUTER_INPUT | SE_ARRAY_OUTPUT;
    call.args.hidden.data = device_hidden.as<>();
    call.args.hidden.strides[0] = stride;
    call.args.router_input.data = device_router.as<>();
    call.args.router_input.strides[0] = stride;
    call.args.output = call.args.hidden;
    call.args.output.data = device_output.as<>();
    Every same;
    same.equal(on_host.code, SE_OK);
    for (int run = 0; run < 3; ++run) {  // the third replays a graph
      const ForwardResult result = run_on_device(layer, call);
      same.that(result.code == SE_OK && same_bits(result.ids, on_host.ids) &&
                device_output.download() == spread(on_host.output));
      device_output.upload(std::vector<char>(num_tokens * stride * bytes, '\xff').data(),
                           num_tokens * stride * bytes);
    }
    same.check(std::string("arrays in device memory") + dtype_text(dtype));
  }
}

// The same key again and again: the first call is plain, the second captured, all are the same bits
// as without graphs, whatever the contents.
TEST_CASE("graphs") {
  const OpenDevice with_graphs;
  const OpenDevice without("SPARSE_EXPERTS_CUDA_GRAPHS", "0");
  LayerFixture fixture(kind_of("shared sigmoid"));
  const DeviceLayer graphed(with_graphs.get(), fixture.layer);
  const DeviceLayer plain(without.get(), fixture.layer);
  const int64_t num_tokens = 6;
  const uint64_t bytes = workspace_bytes_of(graphed, num_tokens);
  const DeviceMemory workspace(with_graphs.get(), bytes);
  const DeviceMemory other_workspace(with_graphs.get(), bytes);
  Every same;
  const SeDeviceCounters before = with_graphs.counters();
  for (int run = 0; run < 14; ++run) {
    const std::vector<char> hidden = random_hidden(&fixture, num_tokens, SE_F32);
    const ForwardCall call(fixture, hidden, SE_F32);
    const ForwardResult replayed = run_on_device(graphed, call, &workspace, bytes);
    const ForwardResult expected = run_on_device(plain, call);
    same.that(replayed.code == SE_OK && same_bits(replayed.output, expected.output) &&
              same_bits(replayed.ids, expected.ids) &&
              same_bits(replayed.weights, expected.weights) &&
              same_bits(replayed.flags, expected.flags));
  }
  same.check("12 replays with other contents give the bits of plain calls");
  const SeDeviceCounters after = with_graphs.counters();
  CHECK_MESSAGE((after.graph_captures - before.graph_captures == 1 &&
                 after.graph_replays - before.graph_replays == 13),
                "one capture, 13 launches of it: ", after.graph_captures, ", ",
                after.graph_replays);
  CHECK_MESSAGE(without.counters().graph_captures == 0, "SPARSE_EXPERTS_CUDA_GRAPHS=0");

  // Another workspace, another call_top_k, a growing staging: keys of their own, the same bits.
  const std::vector<char> hidden = random_hidden(&fixture, num_tokens, SE_F32);
  ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult expected = run_on_device(plain, call);
  for (int run = 0; run < 3; ++run)
    same.that(
        same_bits(run_on_device(graphed, call, &other_workspace, bytes).output, expected.output));
  const std::vector<char> more = random_hidden(&fixture, 200, SE_F32);
  same.equal(run_on_device(graphed, ForwardCall(fixture, more, SE_F32)).code, SE_OK);
  for (int run = 0; run < 3; ++run)
    same.that(same_bits(run_on_device(graphed, call, &workspace, bytes).output, expected.output));
  same.check("graphs follow the workspace and the staging");
  call.args.select.call_top_k = 2;
  const ForwardResult fewer = run_on_device(plain, call);
  for (int run = 0; run < 3; ++run)
    same.that(same_bits(run_on_device(graphed, call, &workspace, bytes).output, fewer.output));
  same.check("a smaller k has a graph of its own");
  CHECK_MESSAGE(!same_bits(fewer.output, expected.output), "a smaller k has a graph of its own");
}

// Each shard holds some experts and leaves the others out; their sum is the whole.
TEST_CASE("shards" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  for (const int32_t dtype : {SE_F32, SE_F16}) {
    LayerOptions options;
    options.num_experts = 10, options.top_k = 4, options.dtype = dtype;
    LayerFixture fixture(options);
    const std::vector<char> hidden = random_hidden(&fixture, 20, SE_F32);
    const ForwardCall call(fixture, hidden, SE_F32);
    const std::vector<double> whole =
        run_on_device(DeviceLayer(device, fixture.layer), call).values(SE_F32);
    std::vector<double> sum(whole.size(), 0.0);
    for (int shard = 0; shard < 3; ++shard) {
      LayerFixture part(options);
      for (int e = 0; e < 10; ++e) {
        if (e % 3 == shard) continue;
        // Any missing matrix makes an expert absent.
        part.pointers(&part.layer.experts.down)[e] = nullptr;
        if (e % 2 == 0) part.pointers(&part.layer.experts.gate)[e] = nullptr;
        if (e % 2 == 0) part.pointers(&part.layer.experts.up)[e] = nullptr;
      }
      const DeviceLayer layer(device, part.layer);
      const ForwardResult result = run_on_device(layer, call);
      for (int e = 0; e < 10; ++e)  // the oracle looks at `up` alone
        if (e % 3 != shard) part.pointers(&part.layer.experts.up)[e] = nullptr;
      CHECK_MESSAGE(result.code == SE_OK, "a shard runs");
      check_against_oracle(part, call, result, "a shard leaves absent experts out");
      const std::vector<double> values = result.values(SE_F32);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
    check_close(sum, whole, 1e-6, "shards sum to the whole");
  }
}

TEST_CASE("architectures" * doctest::test_suite("abi")) {
  using sparse_experts::cuda::is_architecture_served;
  const char* list = "80 86 89 90 100 120+ptx";
  for (const int served : {80, 86, 87, 89, 90, 100, 103, 120, 121, 130})
    CHECK_MESSAGE(is_architecture_served(list, served), "served: sm_", served);
  for (const int refused : {70, 75, 110})
    CHECK_MESSAGE(!is_architecture_served(list, refused), "refused: sm_", refused);
  CHECK_MESSAGE(!is_architecture_served("80", 90), "PTX serves what is newer");
  CHECK_MESSAGE(is_architecture_served("80+ptx", 90), "PTX serves what is newer");
  CHECK_MESSAGE(is_architecture_served("90a", 90), "code for one chip serves that chip");
  CHECK_MESSAGE(!is_architecture_served("90a", 91), "code for one chip serves that chip");
  CHECK_MESSAGE(!is_architecture_served("100a+ptx", 120), "code for one chip serves that chip");
  CHECK_MESSAGE(!is_architecture_served("", 80), "nothing compiled in serves nothing");
}

TEST_CASE("rows alone and in batches" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  for (const char* kind :
       {"odd", "shared sigmoid", "latent", "weight on input", "identity", "clamped silu"})
    for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) test_rows(opened.get(), kind, dtype);
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
