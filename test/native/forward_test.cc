// Whole layers against the oracle; and the bit rules: threads, batches, waves, reruns.
#include <algorithm>

#include "cases.h"
#include "cpp/check.h"
#include "native/context.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("forward");

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
  const std::string what = std::string("forward ") + name + dtype_text(options.dtype) + " of" +
                           dtype_text(hidden_dtype) + " T=" + std::to_string(num_tokens);
  if (!CHECK_MESSAGE(result.code == SE_OK, what, ": ", std::string(result.status.message))) return;
  SeSelectArgs select = call.args.select;
  const OracleRouting routing =
      oracle_select(fixture.layer.routing, select, oracle_logits(fixture.layer, call.args.hidden));
  Every same;
  for (int64_t t = 0; t < num_tokens; ++t)
    for (int64_t k = 0; k < options.top_k; ++k)
      same.that((routing.margins[t] <= kSelectionMargin ||
                 result.ids[t * options.top_k + k] == routing.ids[t * options.top_k + k]));
  same.check(what + ": ids");
  const std::vector<double> expected =
      oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data());
  // The bounds hold for f32 output; a 16-bit output adds its own rounding.
  check_close(result.values(hidden_dtype), expected,
              layer_bound(options.dtype) + output_rounding(hidden_dtype), what);
  CHECK_MESSAGE(
      std::all_of(result.flags.begin(), result.flags.end(), [](uint8_t f) { return f == 0; }), what,
      ": flags");
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
  const std::string what = std::string("bits of ") + kind + dtype_text(dtype);
  if (!CHECK_MESSAGE(whole.code == SE_OK, what, ": ", std::string(whole.status.message))) return;
  for (const int32_t threads : {1, 2, 3, 4}) {
    const ForwardResult again = forward_of(context, fixture, hidden, dtype, threads);
    check_same_bits(again.output, whole.output, what + ": " + std::to_string(threads) + " threads");
    check_same_bits(again.ids, whole.ids, what + ": " + std::to_string(threads) + " threads");
    check_same_bits(again.weights, whole.weights,
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
  Every alone;
  for (int64_t t = 0; t < most; ++t)
    alone.that(equals_rows(
        forward_of(context, fixture,
                   {hidden.begin() + t * row_bytes, hidden.begin() + (t + 1) * row_bytes}, dtype,
                   2),
        t, 1));
  alone.check(what + ": each row alone");
  std::vector<int64_t> sizes = {64, 128};
  for (int64_t m = 1; m <= 33; ++m) sizes.push_back(m);
  bool batches = true;
  for (const int64_t m : sizes)
    batches =
        batches && equals_rows(forward_of(context, fixture,
                                          {hidden.end() - m * row_bytes, hidden.end()}, dtype, 0),
                               most - m, m);
  CHECK_MESSAGE(batches, what, ": every batch size");
}

// More tokens than one wave holds: the same bits as in two calls.
TEST_CASE("more tokens than one wave holds") {
  const Context& context = current();
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
  CHECK_MESSAGE(full <= (uint64_t{300} << 20), "waves: the workspace has a ceiling");
  CHECK_MESSAGE(half <= full, "waves: the workspace has a ceiling");
  CHECK_MESSAGE(bytes == full, "waves: the workspace has a ceiling");
  const ForwardResult whole = forward_of(context, fixture, hidden, SE_F32, 0);
  const ForwardResult part =
      forward_of(context, fixture, {hidden.begin() + 150 * 8192 * 4, hidden.end()}, SE_F32, 0);
  CHECK_MESSAGE(whole.code == SE_OK, "waves change no bit");
  CHECK_MESSAGE(part.code == SE_OK, "waves change no bit");
  CHECK_MESSAGE(std::memcmp(part.output.data(), whole.output.data() + int64_t{150} * 8192 * 4,
                            part.output.size()) == 0,
                "waves change no bit");
}

void test_whole_layers(int32_t dtype) {
  const Context& context = current();
  for (const auto& [name, kind] : layer_kinds()) {
    LayerOptions options = kind;
    options.dtype = dtype;
    for (const int64_t num_tokens : {0, 1, 7, 40})
      run_case(context, options, name, num_tokens, SE_F32);
    if (dtype != SE_F32) run_case(context, options, name, 13, dtype);
  }
}

// A case for each dtype, because they take most of the time: the parts of a run share them out.
TEST_CASE("whole layers against the oracle: f32") { test_whole_layers(SE_F32); }
TEST_CASE("whole layers against the oracle: f16") { test_whole_layers(SE_F16); }
TEST_CASE("whole layers against the oracle: bf16") { test_whole_layers(SE_BF16); }

TEST_CASE("large layers against the oracle") {
  const Context& context = current();
  LayerOptions large;
  large.hidden_size = 2880, large.intermediate = 704, large.num_experts = 4, large.top_k = 2;
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    large.dtype = dtype;
    run_case(context, large, "large", 3, SE_F32);
  }
  large.hidden_size = 7168, large.intermediate = 96, large.dtype = SE_F32;
  run_case(context, large, "wide", 3, SE_F32);
}

void test_bits(int32_t dtype) {
  for (const auto& [name, kind] : layer_kinds()) {
    if (name != "odd" && name != "shared sigmoid" && name != "latent" &&
        name != "weight on input" && name != "long rows" && name != "identity")
      continue;
    test_rows(current(), dtype, name, kind);
  }
}

TEST_CASE("rows, batches and threads give the same bits: f32") { test_bits(SE_F32); }
TEST_CASE("rows, batches and threads give the same bits: f16") { test_bits(SE_F16); }
TEST_CASE("rows, batches and threads give the same bits: bf16") { test_bits(SE_BF16); }

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
