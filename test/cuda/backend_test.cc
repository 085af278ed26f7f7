// The CUDA backend through its ABI: whole layers against the double-precision oracle, and the rules
// about bits: rows, waves, graphs, shards.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "cuda/backend_suites.h"
#include "cuda/device_layer.h"
#include "cuda/runtime/availability.h"
#include "cuda/suites.h"
#include "native/check.h"
#include "native/fixture.h"
#include "native/oracle.h"

namespace native_test {
namespace {

double bound_of(int32_t dtype) { return dtype == SE_F32 ? 5e-6 : dtype == SE_F16 ? 1.5e-3 : 8e-3; }

const char* dtype_text(int32_t dtype) {
  return dtype == SE_F32 ? " f32" : dtype == SE_F16 ? " f16" : " bf16";
}

std::vector<char> random_hidden(LayerFixture* fixture, int64_t num_tokens, int32_t dtype) {
  return random_bytes(&fixture->random, num_tokens * fixture->layer.hidden_size, dtype, 1);
}

void check_against_oracle(const LayerFixture& fixture, const ForwardCall& call,
                          const ForwardResult& result, const std::string& what) {
  const int32_t hidden_dtype = call.args.hidden.dtype;
  // The bounds hold for f32 output; a 16-bit output adds its own rounding.
  const double rounding = hidden_dtype == SE_F32 ? 0 : hidden_dtype == SE_F16 ? 3e-4 : 2e-3;
  check_close(
      result.values(hidden_dtype),
      oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data()),
      bound_of(fixture.layer.experts.dtype) + rounding, what);
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
  if (!check(result.code == SE_OK, what + ": " + result.status.message)) return;
  const OracleRouting routing = oracle_select(fixture.layer.routing, call.args.select,
                                              oracle_logits(fixture.layer, call.args.hidden));
  bool same = true;
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t k = 0; k < options.top_k; ++k)
      same = same && (routing.margins[t] <= 1e-3 ||
                      result.ids[t * options.top_k + k] == routing.ids[t * options.top_k + k]);
  check(same, what + ": ids");
  check_against_oracle(fixture, call, result, what);
  check(std::all_of(result.flags.begin(), result.flags.end(), [](uint8_t f) { return f == 0; }),
        what + ": flags");
}

using Kinds = std::vector<std::pair<std::string, LayerOptions>>;

Kinds layer_kinds() {
  Kinds kinds;
  LayerOptions o;
  kinds.emplace_back("plain", o);
  o.hidden_size = 17, o.intermediate = 31, o.num_experts = 3;
  kinds.emplace_back("odd", o);
  o.hidden_size = 1, o.intermediate = 1, o.num_experts = 1, o.top_k = 1;
  kinds.emplace_back("ones", o);
  o = LayerOptions();
  o.biases = o.router_bias = true, o.activation = {SE_SILU, 1, 1.702f, 1.0f, 1.5f}, o.top_k = 4,
  o.hidden_size = 96;
  kinds.emplace_back("gpt_oss", o);
  o = LayerOptions();
  o.shared = 80, o.num_experts = 16, o.top_k = 6, o.row_padding = 5;
  kinds.emplace_back("shared", o);
  o.shared_mode = SE_SHARED_SIGMOID;
  kinds.emplace_back("shared sigmoid", o);
  o.shared_mode = SE_SHARED_MIX;
  kinds.emplace_back("shared mix", o);
  o = LayerOptions();
  o.weight_on_input = true, o.shared = 48, o.top_k = 1;
  kinds.emplace_back("llama4", o);
  o = LayerOptions();
  o.latent = 24, o.shared = 56, o.activation = {SE_RELU2, 0, 1.0f, 0.0f, 0.0f}, o.top_k = 3;
  kinds.emplace_back("latent", o);
  o = LayerOptions();
  o.num_identity = 4, o.num_experts = 12, o.top_k = 5;
  kinds.emplace_back("identity", o);
  o = LayerOptions();
  o.input_scale = true, o.activation = {SE_GELU_TANH, 1, 1.0f, 0.0f, 0.0f};
  kinds.emplace_back("gemma4", o);
  o = LayerOptions();
  o.activation = {SE_RELU, 0, 1.0f, 0.0f, 0.0f}, o.biases = true;
  kinds.emplace_back("nllb", o);
  o = LayerOptions();
  o.activation = {SE_GELU, 1, 1.0f, 0.0f, 0.0f}, o.output_bias = true;
  kinds.emplace_back("output bias", o);
  o = LayerOptions();
  o.hidden_size = 520, o.intermediate = 264, o.num_experts = 4, o.top_k = 2;
  kinds.emplace_back("several tiles", o);
  return kinds;
}

LayerOptions kind_of(const std::string& name) {
  for (const auto& [kind, options] : layer_kinds())
    if (kind == name) return options;
  check(false, "no kind " + name);
  return {};
}

void test_kinds(SeDevice* device, bool all) {
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
void test_unlike_shared(SeDevice* device) {
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
  check(result.code == SE_OK,
        std::string("shared expert of another dtype: ") + result.status.message);
  check_against_oracle(routed, call, result, "shared expert of another dtype");
  other.layer.shared.activation.kind = SE_GELU;
  const std::vector<char> wide = random_hidden(&other, 9, SE_F32);
  const ForwardCall gelu(other, wide, SE_F32);
  result = run_on_device(DeviceLayer(device, other.layer), gelu);
  check(result.code == SE_OK, "shared expert of another activation");
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
  if (!check(whole.code == SE_OK, what + ": " + whole.status.message)) return;
  const ForwardResult again = forward_rows(layer, fixture, hidden, dtype);
  check(same_bits(again.output, whole.output) && same_bits(again.ids, whole.ids) &&
            same_bits(again.weights, whole.weights),
        what + ": the same again");
  bool alone = true;
  for (int64_t t = 0; t < most; t += 3)
    alone = alone && equals_rows(forward_rows(layer, fixture,
                                              {hidden.begin() + t * row_bytes,
                                               hidden.begin() + (t + 1) * row_bytes},
                                              dtype),
                                 whole, t, 1, row_bytes, options.top_k);
  check(alone, what + ": each row alone");
  bool batches = true;
  for (const int64_t m : {2, 7, 8, 9, 16, 17, 33, 64})
    batches = batches &&
              equals_rows(
                  forward_rows(layer, fixture, {hidden.end() - m * row_bytes, hidden.end()}, dtype),
                  whole, most - m, m, row_bytes, options.top_k);
  check(batches, what + ": batches");
}

// More tokens than a wave or a chunk holds: the same bits.
void test_waves(SeDevice* device) {
  const OpenDevice small("SPARSE_EXPERTS_CUDA_WAVE_BYTES", "65536");
  for (const char* kind : {"shared mix", "latent", "llama4", "identity"}) {
    LayerOptions options = kind_of(kind);
    options.dtype = SE_BF16;
    LayerFixture fixture(options);
    const std::vector<char> hidden = random_hidden(&fixture, 200, SE_F32);
    const ForwardCall call(fixture, hidden, SE_F32);
    const DeviceLayer in_waves(small.get(), fixture.layer, 1);
    const DeviceLayer at_once(device, fixture.layer, 1);
    const ForwardResult waves = run_on_device(in_waves, call);
    const ForwardResult whole = run_on_device(at_once, call);
    check(waves.code == SE_OK && whole.code == SE_OK && same_bits(waves.output, whole.output) &&
              same_bits(waves.ids, whole.ids),
          std::string("waves change no bit: ") + kind);
    const uint64_t ceiling = workspace_bytes_of(in_waves, 1 << 20);
    check(workspace_bytes_of(in_waves, 200) <= ceiling &&
              workspace_bytes_of(in_waves, 1) <= workspace_bytes_of(in_waves, 200) &&
              ceiling <= (uint64_t{80} << 20),
          std::string("the workspace has a ceiling: ") + kind);
    SeForwardDescription text{};
    se_backend_entry()->describe_forward(small.get(), &in_waves.description(), &in_waves.options(),
                                         200, &text);
    check(std::strstr(text.dispatch, "waves") != nullptr && text.gate[0] != '\0' &&
              text.select[0] != '\0' && text.gate_up[0] != '\0' && text.down[0] != '\0' &&
              text.combine[0] != '\0',
          std::string("described: ") + text.dispatch);
  }
}

// A call whose arrays do not fit the layer's own staging gives the bits of smaller ones.
void test_large_call(SeDevice* device) {
  LayerOptions options;
  options.hidden_size = 2048, options.intermediate = 8, options.num_experts = 4, options.top_k = 1;
  LayerFixture fixture(options);
  const int64_t row_bytes = options.hidden_size * 4;
  const std::vector<char> hidden = random_hidden(&fixture, 530, SE_F32);
  const DeviceLayer layer(device, fixture.layer, 1);
  const ForwardResult whole = forward_rows(layer, fixture, hidden, SE_F32);
  bool same = check(whole.code == SE_OK, std::string("a large call: ") + whole.status.message);
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 3}, {263, 2}, {525, 5}})
    same = same && equals_rows(forward_rows(layer, fixture,
                                            {hidden.begin() + first * row_bytes,
                                             hidden.begin() + (first + count) * row_bytes},
                                            SE_F32),
                               whole, first, count, row_bytes, 1);
  check(same, "a large call gives the bits of small ones");
}

// Hidden, router input and output in device memory, with rows that lie apart.
void test_device_arrays(SeDevice* device) {
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
    bool same = on_host.code == SE_OK;
    for (int run = 0; run < 3; ++run) {  // the third replays a graph
      const ForwardResult result = run_on_device(layer, call);
      same = same && result.code == SE_OK && same_bits(result.ids, on_host.ids) &&
             device_output.download() == spread(on_host.output);
      device_output.upload(std::vector<char>(num_tokens * stride * bytes, '\xff').data(),
                           num_tokens * stride * bytes);
    }
    check(same, std::string("arrays in device memory") + dtype_text(dtype));
  }
}

// The same key again and again: the first call is plain, the second captured, all are the same bits
// as without graphs, whatever the contents.
void test_graphs(SeDevice*) {
  const OpenDevice with_graphs;
  const OpenDevice without("SPARSE_EXPERTS_CUDA_GRAPHS", "0");
  LayerFixture fixture(kind_of("shared sigmoid"));
  const DeviceLayer graphed(with_graphs.get(), fixture.layer);
  const DeviceLayer plain(without.get(), fixture.layer);
  const int64_t num_tokens = 6;
  const uint64_t bytes = workspace_bytes_of(graphed, num_tokens);
  const DeviceMemory workspace(with_graphs.get(), bytes);
  const DeviceMemory other_workspace(with_graphs.get(), bytes);
  bool same = true;
  const SeDeviceCounters before = with_graphs.counters();
  for (int run = 0; run < 14; ++run) {
    const std::vector<char> hidden = random_hidden(&fixture, num_tokens, SE_F32);
    const ForwardCall call(fixture, hidden, SE_F32);
    const ForwardResult replayed = run_on_device(graphed, call, &workspace, bytes);
    const ForwardResult expected = run_on_device(plain, call);
    same = same && replayed.code == SE_OK && same_bits(replayed.output, expected.output) &&
           same_bits(replayed.ids, expected.ids) && same_bits(replayed.weights, expected.weights) &&
           same_bits(replayed.flags, expected.flags);
  }
  check(same, "12 replays with other contents give the bits of plain calls");
  const SeDeviceCounters after = with_graphs.counters();
  check(after.graph_captures - before.graph_captures == 1 &&
            after.graph_replays - before.graph_replays == 13,
        "one capture, 13 launches of it: " + std::to_string(after.graph_captures) + ", " +
            std::to_string(after.graph_replays));
  check(without.counters().graph_captures == 0, "SPARSE_EXPERTS_CUDA_GRAPHS=0");

  // Another workspace, another call_top_k, a growing staging: keys of their own, the same bits.
  const std::vector<char> hidden = random_hidden(&fixture, num_tokens, SE_F32);
  ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult expected = run_on_device(plain, call);
  for (int run = 0; run < 3; ++run)
    same = same &&
           same_bits(run_on_device(graphed, call, &other_workspace, bytes).output, expected.output);
  const std::vector<char> more = random_hidden(&fixture, 200, SE_F32);
  same = same && run_on_device(graphed, ForwardCall(fixture, more, SE_F32)).code == SE_OK;
  for (int run = 0; run < 3; ++run)
    same =
        same && same_bits(run_on_device(graphed, call, &workspace, bytes).output, expected.output);
  check(same, "graphs follow the workspace and the staging");
  call.args.select.call_top_k = 2;
  const ForwardResult fewer = run_on_device(plain, call);
  for (int run = 0; run < 3; ++run)
    same = same && same_bits(run_on_device(graphed, call, &workspace, bytes).output, fewer.output);
  check(same && !same_bits(fewer.output, expected.output), "a smaller k has a graph of its own");
}

// Each shard holds some experts and leaves the others out; their sum is the whole.
void test_shards(SeDevice* device) {
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
      check(result.code == SE_OK, "a shard runs");
      check_against_oracle(part, call, result, "a shard leaves absent experts out");
      const std::vector<double> values = result.values(SE_F32);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
    check_close(sum, whole, 1e-6, "shards sum to the whole");
  }
}

}  // namespace

void test_architectures() {
  using sparse_experts::cuda::is_architecture_served;
  const char* list = "80 86 89 90 100 120+ptx";
  for (const int served : {80, 86, 87, 89, 90, 100, 103, 120, 121, 130})
    check(is_architecture_served(list, served), "served: sm_" + std::to_string(served));
  for (const int refused : {70, 75, 110})
    check(!is_architecture_served(list, refused), "refused: sm_" + std::to_string(refused));
  check(!is_architecture_served("80", 90) && is_architecture_served("80+ptx", 90),
        "PTX serves what is newer");
  check(is_architecture_served("90a", 90) && !is_architecture_served("90a", 91) &&
            !is_architecture_served("100a+ptx", 120),
        "code for one chip serves that chip");
  check(!is_architecture_served("", 80), "nothing compiled in serves nothing");
}

}  // namespace native_test

// Everything under the first schedule; under the others what depends on the order of threads.
void native_test::test_backend(const CudaContext& context) {
  const bool all = context.schedule == "forward" || context.schedule == "device";
  {
    const OpenDevice device;
    test_kinds(device.get(), all);
    test_graphs(device.get());
    if (all) {
      test_architectures();
      test_unlike_shared(device.get());
      for (const char* kind : {"odd", "shared sigmoid", "latent", "llama4", "identity", "gpt_oss"})
        for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) test_rows(device.get(), kind, dtype);
      test_waves(device.get());
      test_large_call(device.get());
      test_device_arrays(device.get());
      test_shards(device.get());
    }
    test_backend_calls(device.get());
  }
  if (all) {
    test_backend_stages();
    test_backend_failures();
  }
}
