// Whole layers against the oracle; and the bit rules: threads, batches, waves, reruns.
#include <algorithm>

#include "check.h"
#include "fixture.h"
#include "oracle.h"
#include "suites.h"

namespace native_test {
namespace {

double bound_of(int32_t dtype) { return dtype == SE_F32 ? 5e-6 : dtype == SE_F16 ? 1.5e-3 : 8e-3; }

const char* dtype_text(int32_t dtype) {
  return dtype == SE_F32 ? " f32" : dtype == SE_F16 ? " f16" : " bf16";
}

void run_case(const Context& context, LayerOptions options, const std::string& name,
              int64_t num_tokens, int32_t hidden_dtype) {
  static uint64_t seed = 0;
  options.seed = ++seed;
  LayerFixture fixture(options);
  const std::vector<char> hidden =
      random_bytes(&fixture.random, num_tokens * options.hidden_size, hidden_dtype, 1);
  const ForwardCall call(fixture, hidden, hidden_dtype);
  const ForwardResult result = run_forward(context.backend, context.device, fixture, call);
  const std::string what = context.isa + " forward " + name + dtype_text(options.dtype) + " of" +
                           dtype_text(hidden_dtype) + " T=" + std::to_string(num_tokens);
  if (!check(result.code == SE_OK, what + ": " + result.status.message)) return;
  SeSelectArgs select = call.args.select;
  const OracleRouting routing =
      oracle_select(fixture.layer.routing, select, oracle_logits(fixture.layer, call.args.hidden));
  bool same = true;
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t k = 0; k < options.top_k; ++k)
      same = same && (routing.margins[t] <= 1e-3 ||
                      result.ids[t * options.top_k + k] == routing.ids[t * options.top_k + k]);
  check(same, what + ": ids");
  const std::vector<double> expected =
      oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data());
  // The bounds hold for f32 output; a 16-bit output adds its own rounding.
  const double rounding = hidden_dtype == SE_F32 ? 0 : hidden_dtype == SE_F16 ? 3e-4 : 2e-3;
  check_close(result.values(hidden_dtype), expected, bound_of(options.dtype) + rounding, what);
  check(std::all_of(result.flags.begin(), result.flags.end(), [](uint8_t f) { return f == 0; }),
        what + ": flags");
}

std::vector<std::pair<std::string, LayerOptions>> layer_kinds() {
  std::vector<std::pair<std::string, LayerOptions>> kinds;
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
  o.hidden_size = 2501, o.intermediate = 24, o.num_experts = 3;  // several slabs of K and a tail
  kinds.emplace_back("long rows", o);
  return kinds;
}

ForwardResult forward_of(const Context& context, const LayerFixture& fixture,
                         const std::vector<char>& hidden, int32_t dtype, int32_t num_threads) {
  ForwardCall call(fixture, hidden, dtype);
  call.args.num_threads = num_threads;
  return run_forward(context.backend, context.device, fixture, call);
}

// Every row alone, and every batch size, gives the bits of the largest batch; so does every number
// of threads.
void test_rows(const Context& context, int32_t dtype, const std::string& kind,
               LayerOptions options) {
  options.dtype = dtype;
  LayerFixture fixture(options);
  const int64_t most = 129;
  const int64_t row_bytes = options.hidden_size * (dtype == SE_F32 ? 4 : 2);
  const std::vector<char> hidden =
      random_bytes(&fixture.random, most * options.hidden_size, dtype, 1);
  const ForwardResult whole = forward_of(context, fixture, hidden, dtype, 0);
  const std::string what = context.isa + " bits of " + kind + dtype_text(dtype);
  if (!check(whole.code == SE_OK, what + ": " + whole.status.message)) return;
  for (const int32_t threads : {1, 2, 3, 4}) {
    const ForwardResult again = forward_of(context, fixture, hidden, dtype, threads);
    check(same_bits(again.output, whole.output) && same_bits(again.ids, whole.ids) &&
              same_bits(again.weights, whole.weights),
          what + ": " + std::to_string(threads) + " threads");
  }
  const auto equals_rows = [&](const ForwardResult& part, int64_t first, int64_t count) {
    const int64_t top_k = options.top_k;
    return part.code == SE_OK &&
           std::memcmp(part.output.data(), whole.output.data() + first * row_bytes,
                       count * row_bytes) == 0 &&
           std::memcmp(part.weights.data(), whole.weights.data() + first * top_k,
                       count * top_k * 4) == 0;
  };
  bool alone = true;
  for (int64_t t = 0; t < most; ++t)
    alone = alone && equals_rows(forward_of(context, fixture,
                                            {hidden.begin() + t * row_bytes,
                                             hidden.begin() + (t + 1) * row_bytes},
                                            dtype, 2),
                                 t, 1);
  check(alone, what + ": each row alone");
  std::vector<int64_t> sizes = {64, 128};
  for (int64_t m = 1; m <= 33; ++m) sizes.push_back(m);
  bool batches = true;
  for (const int64_t m : sizes)
    batches =
        batches && equals_rows(forward_of(context, fixture,
                                          {hidden.end() - m * row_bytes, hidden.end()}, dtype, 0),
                               most - m, m);
  check(batches, what + ": every batch size");
}

// More tokens than one wave holds: the same bits as in two calls.
void test_waves(const Context& context) {
  LayerOptions options;
  options.hidden_size = 8192, options.intermediate = 4, options.num_experts = 64,
  options.top_k = 64;
  LayerFixture fixture(options);
  const int64_t num_tokens = 300;
  const std::vector<char> hidden = random_bytes(&fixture.random, num_tokens * 8192, SE_F32, 1);
  const uint64_t full = context.backend->forward_workspace_bytes(context.device, &fixture.layer,
                                                                 &kDefaultOptions, 1 << 20);
  const uint64_t half = context.backend->forward_workspace_bytes(context.device, &fixture.layer,
                                                                 &kDefaultOptions, 150);
  const uint64_t bytes = context.backend->forward_workspace_bytes(context.device, &fixture.layer,
                                                                  &kDefaultOptions, num_tokens);
  check(full <= (uint64_t{300} << 20) && half <= full && bytes == full,
        context.isa + " waves: the workspace has a ceiling");
  const ForwardResult whole = forward_of(context, fixture, hidden, SE_F32, 0);
  const ForwardResult part =
      forward_of(context, fixture, {hidden.begin() + 150 * 8192 * 4, hidden.end()}, SE_F32, 0);
  check(whole.code == SE_OK && part.code == SE_OK &&
            std::memcmp(part.output.data(), whole.output.data() + int64_t{150} * 8192 * 4,
                        part.output.size()) == 0,
        context.isa + " waves change no bit");
}

}  // namespace

void test_forward(const Context& context) {
  for (const auto& [name, kind] : layer_kinds()) {
    for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
      LayerOptions options = kind;
      options.dtype = dtype;
      for (const int64_t num_tokens : {0, 1, 7, 40})
        run_case(context, options, name, num_tokens, SE_F32);
      if (dtype != SE_F32) run_case(context, options, name, 13, dtype);
    }
  }
  LayerOptions large;
  large.hidden_size = 2880, large.intermediate = 704, large.num_experts = 4, large.top_k = 2;
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    large.dtype = dtype;
    run_case(context, large, "large", 3, SE_F32);
  }
  large.hidden_size = 7168, large.intermediate = 96, large.dtype = SE_F32;
  run_case(context, large, "wide", 3, SE_F32);
}

void test_bits(const Context& context) {
  for (const auto& [name, kind] : layer_kinds()) {
    if (name != "odd" && name != "shared sigmoid" && name != "latent" && name != "llama4" &&
        name != "long rows" && name != "identity")
      continue;
    for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) test_rows(context, dtype, name, kind);
  }
  test_waves(context);
}

}  // namespace native_test
