// Calls that are out of the ordinary: replayed routing, capacity, hash routing, rows that are not
// finite, arguments that are refused, cancellation.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "cpp/check.h"
#include "cuda/device_layer.h"
#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("backend");

std::vector<char> random_hidden(LayerFixture* fixture, int64_t num_tokens) {
  return random_bytes(&fixture->random, num_tokens * fixture->layer.hidden_size, SE_F32, 1);
}

void check_layer(const LayerFixture& fixture, const ForwardCall& call, const ForwardResult& result,
                 const std::string& what) {
  CHECK_MESSAGE(result.code == SE_OK, what, ": ", std::string(result.status.message));
  check_close(
      result.values(SE_F32),
      oracle_experts(fixture.layer, call.args.hidden, result.ids.data(), result.weights.data()),
      5e-6, what);
}

TEST_CASE("replay") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  LayerOptions options;
  options.num_identity = 2, options.num_experts = 10, options.top_k = 3;
  LayerFixture fixture(options);
  const DeviceLayer layer(device, fixture.layer);
  const std::vector<char> hidden = random_hidden(&fixture, 6);
  const ForwardResult first = run_on_device(layer, ForwardCall(fixture, hidden, SE_F32));
  ForwardCall call(fixture, hidden, SE_F32);
  call.args.replay = 1;
  std::vector<int32_t> ids = first.ids;
  std::vector<float> weights = first.weights;
  call.args.select.topk_ids = ids.data();
  call.args.select.topk_weights = weights.data();
  for (int run = 0; run < 3; ++run) {
    const ForwardResult again = run_on_device(layer, call);
    CHECK_MESSAGE(again.code == SE_OK, "replay gives the same bits");
    check_same_bits(again.output, first.output, "replay gives the same bits");
    check_same_bits(again.ids, first.ids, "replay gives the same bits");
    CHECK_MESSAGE(again.flags == std::vector<uint8_t>(again.flags.size(), 0),
                  "replay gives the same bits");
  }
  ids = {-1, -1, -1, 4, 4, 4, 0,  -1, 0,
         9,  8,  9,  7, 2, 2, -1, 8,  1};  // nothing, repeats, identity experts
  check_layer(fixture, call, run_on_device(layer, call), "replay with repeats and dropped slots");
  for (const int32_t id : {10, -2, 0x7fffffff}) {
    ids[7] = id;
    const ForwardResult bad = run_on_device(layer, call);
    CHECK_MESSAGE(bad.code == SE_INVALID_ARGUMENT, "a bad replayed id is refused first");
    CHECK_MESSAGE(bad.output[0] == '\xff', "a bad replayed id is refused first");
  }
}

TEST_CASE("capacity") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  LayerOptions options;
  options.num_experts = 4, options.activation = {SE_RELU, 0, 1.0f, 0.0f, 0.0f};
  for (const int32_t capacity : {SE_CAPACITY_BATCH, SE_CAPACITY_PER_SEQUENCE}) {
    options.top_k = capacity == SE_CAPACITY_BATCH ? 2 : 1;
    LayerFixture fixture(options);
    SeRouting& routing = fixture.layer.routing;
    routing.normalization = capacity == SE_CAPACITY_BATCH ? SE_NORM_FLOOR : SE_NORM_NONE;
    routing.norm_value = capacity == SE_CAPACITY_BATCH ? 1e-7 : 0;
    routing.capacity = capacity;
    routing.expert_capacity = 5;
    const DeviceLayer layer(device, fixture.layer);
    const std::vector<char> hidden = random_hidden(&fixture, 30);
    ForwardCall call(fixture, hidden, SE_F32);
    const std::vector<int32_t> lengths = {11, 0, 19};
    if (capacity == SE_CAPACITY_PER_SEQUENCE) {
      call.args.select.sequence_lengths = lengths.data();
      call.args.select.num_sequences = 3;
    }
    const ForwardResult result = run_on_device(layer, call);
    const OracleRouting expected =
        oracle_select(routing, call.args.select, oracle_logits(fixture.layer, call.args.hidden));
    CHECK_MESSAGE(result.ids == expected.ids, "ids under capacity");
    check_close(std::vector<double>(result.weights.begin(), result.weights.end()), expected.weights,
                2e-6, "weights under capacity");
    CHECK_MESSAGE(std::count(result.ids.begin(), result.ids.end(), -1) > 0,
                  "capacity drops something");
    check_layer(fixture, call, result, "a layer with capacity");
  }
}

// Ids from a table, k per row, and shares of weight.
TEST_CASE("routing arguments") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  LayerOptions options;
  options.num_experts = 8, options.top_k = 3;
  LayerFixture fixture(options);
  SeRouting& routing = fixture.layer.routing;
  std::vector<int32_t> table(20 * 3);
  for (int32_t i = 0; i < 20 * 3; ++i) table[static_cast<size_t>(i)] = (i / 3 * 5 + i % 3 * 2) % 8;
  routing.scoring = SE_SIGMOID;
  routing.hash_routed = 1;
  routing.hash_table = table.data();
  routing.vocab_size = 20;
  std::vector<int32_t> token_ids = {19, 0, 3, 7, 7, 11, 2, 1, 5};
  std::vector<uint8_t> row_top_k = {3, 0, 1, 2, 3, 3, 0, 1, 2};
  const std::vector<double> row_top_p = {1, 0.5, 0.9, 1, 0.4, 0.7, 1, 0.2, 0.6};
  const std::vector<char> hidden = random_hidden(&fixture, 9);
  ForwardCall call(fixture, hidden, SE_F32);
  call.args.select.token_ids = token_ids.data();
  call.args.select.row_top_k = row_top_k.data();
  call.args.select.row_top_p = row_top_p.data();
  {
    const DeviceLayer layer(device, fixture.layer);
    for (int run = 0; run < 3; ++run) {  // the third replays a graph with another row_top_k
      row_top_k[0] = static_cast<uint8_t>(3 - run);
      const ForwardResult result = run_on_device(layer, call);
      const OracleRouting expected =
          oracle_select(routing, call.args.select, oracle_logits(fixture.layer, call.args.hidden));
      CHECK_MESSAGE(result.ids == expected.ids, "hash routing with k per row: ids");
      check_layer(fixture, call, result, "hash routing with k per row");
    }
    token_ids[4] = 20;
    CHECK_MESSAGE(run_on_device(layer, call).code == SE_INVALID_ARGUMENT,
                  "a token id beyond the table");
    token_ids[4] = 7;
    row_top_k[8] = 4;
    CHECK_MESSAGE(run_on_device(layer, call).code == SE_INVALID_ARGUMENT, "k of a row above top_k");
    row_top_k[8] = 2;
  }
  table[31] = 8;
  const DeviceLayer bad(device, fixture.layer);
  CHECK_MESSAGE(
      (bad.code == SE_INVALID_ARGUMENT && std::strstr(bad.status.message, "31") != nullptr),
      "a hash table that names no expert: ", std::string(bad.status.message));
  routing.hash_routed = 0;
  routing.scoring = SE_SOFTMAX;
  ForwardCall share(fixture, hidden, SE_F32);
  share.args.select.top_p = 0.6;
  const ForwardResult result = run_on_device(DeviceLayer(device, fixture.layer), share);
  const OracleRouting expected =
      oracle_select(routing, share.args.select, oracle_logits(fixture.layer, share.args.hidden));
  CHECK_MESSAGE(result.ids == expected.ids, "top_p: ids");
  check_layer(fixture, share, result, "top_p");
}

TEST_CASE("non finite") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  for (const int64_t latent : {0, 24}) {
    LayerOptions options;
    options.shared = 40, options.num_experts = 16, options.top_k = 4, options.latent = latent;
    LayerFixture fixture(options);
    const DeviceLayer layer(device, fixture.layer, 1);
    const int64_t num_tokens = 9, row = options.hidden_size;
    std::vector<char> hidden = random_hidden(&fixture, num_tokens);
    const ForwardResult clean = run_on_device(layer, ForwardCall(fixture, hidden, SE_F32));
    reinterpret_cast<float*>(hidden.data())[2 * row + 5] = NAN;
    reinterpret_cast<float*>(hidden.data())[6 * row] = INFINITY;
    // Finite logits may be; the experts overflow.
    reinterpret_cast<float*>(hidden.data())[7 * row + 1] = 3e38f;
    const ForwardResult result = run_on_device(layer, ForwardCall(fixture, hidden, SE_F32));
    CHECK_MESSAGE(result.code == SE_OK, "rows that are not finite are no error");
    const std::vector<double> values = result.values(SE_F32);
    for (int64_t t = 0; t < num_tokens; ++t) {
      const bool bad = t == 2 || t == 6 || t == 7;
      CHECK_MESSAGE((result.flags[t] != 0) == bad, "flag of row ", t);
      if (!bad)
        CHECK_MESSAGE(std::memcmp(result.output.data() + t * row * 4,
                                  clean.output.data() + t * row * 4, row * 4) == 0,
                      "other rows keep their bits");
      if (t == 2 || t == 6)
        CHECK_MESSAGE(std::all_of(values.begin() + t * row, values.begin() + (t + 1) * row,
                                  [](double v) { return std::isnan(v); }),
                      "a flagged row is NaN");
    }
  }
}

// The arrays of a call lie where the device copies from and to: nothing else is read or written.
TEST_CASE("staged") {
  const OpenDevice opened;
  const SeBackend& backend = *se_backend_entry();
  LayerFixture fixture{LayerOptions()};
  const DeviceLayer layer(opened.get(), fixture.layer);
  const int64_t num_tokens = 5;
  const std::vector<char> hidden = random_hidden(&fixture, num_tokens);
  const ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult expected = run_on_device(layer, call);
  const uint64_t bytes = workspace_bytes_of(layer, num_tokens);
  const DeviceMemory workspace(opened.get(), bytes);
  SeStatus status{};
  // What the caller has itself: never touched once it is staged.
  ForwardResult own = expected;
  SeForwardArgs plain = call.args;
  plain.output = plain.hidden;
  plain.output.data = own.output.data();
  plain.select.topk_ids = own.ids.data();
  plain.select.topk_weights = own.weights.data();
  plain.select.non_finite = own.flags.data();
  const void* places = nullptr;
  for (int run = 0; run < 4; ++run) {
    SeForwardArgs args = plain;
    REQUIRE(backend.stage_forward(layer.get(), &args, &status) == SE_OK);
    REQUIRE(args.is_staged == 1);
    CHECK(args.hidden.data != plain.hidden.data);
    CHECK(args.output.data != plain.output.data);
    CHECK(args.select.row_top_k == nullptr);
    if (run > 0) CHECK_MESSAGE(args.hidden.data == places, "every call has the same places");
    places = args.hidden.data;
    SeForwardArgs other = plain;
    CHECK(backend.stage_forward(layer.get(), &other, &status) == SE_OK);
    CHECK_MESSAGE(other.is_staged == 0, "one call at a time has them");
    CHECK(other.hidden.data == plain.hidden.data);
    std::memcpy(args.hidden.data, hidden.data(), hidden.size());
    std::memset(args.output.data, 0xff, hidden.size());
    const ForwardResult between = run_on_device(layer, call);
    check_same_bits(between.output, expected.output, "another call meanwhile");
    REQUIRE(backend.forward(layer.get(), &args, workspace.as<>(), bytes, &status) == SE_OK);
    const auto* output = static_cast<const char*>(args.output.data);
    check_same_bits(std::vector<char>(output, output + hidden.size()), expected.output, "staged");
    const std::vector<int32_t> ids(args.select.topk_ids,
                                   args.select.topk_ids + expected.ids.size());
    CHECK(ids == expected.ids);
    const std::vector<float> weights(args.select.topk_weights,
                                     args.select.topk_weights + expected.weights.size());
    check_same_bits(weights, expected.weights, "staged");
    CHECK(args.select.non_finite[0] == 0);
    backend.unstage_forward(layer.get());
    CHECK_MESSAGE(backend.forward(layer.get(), &args, workspace.as<>(), bytes, &status) ==
                      SE_INVALID_ARGUMENT,
                  "not after they were given back");
  }
  check_same_bits(own.output, expected.output, "the caller's own arrays");
  // A call that is not small, and one that is none.
  SeForwardArgs none = plain;
  none.select.num_tokens = 0;
  CHECK(backend.stage_forward(layer.get(), &none, &status) == SE_OK);
  CHECK(none.is_staged == 0);
  const std::vector<char> many = random_hidden(&fixture, 20000);
  const ForwardCall large(fixture, many, SE_F32);
  SeForwardArgs args = large.args;
  args.output = args.hidden;
  args.select.topk_ids = own.ids.data();
  args.select.topk_weights = own.weights.data();
  args.select.non_finite = own.flags.data();
  CHECK(backend.stage_forward(layer.get(), &args, &status) == SE_OK);
  CHECK(args.is_staged == 0);
}

TEST_CASE("arguments") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  const SeBackend& backend = *se_backend_entry();
  LayerFixture fixture{LayerOptions()};
  const DeviceLayer layer(device, fixture.layer);
  const std::vector<char> hidden = random_hidden(&fixture, 4);
  const ForwardCall good(fixture, hidden, SE_F32);
  const auto code_of = [&](const ForwardCall& call) { return run_on_device(layer, call).code; };
  const int32_t cancel = 1;
  ForwardCall call = good;
  call.args.cancel = &cancel;
  CHECK_MESSAGE(code_of(call) == SE_CANCELLED, "cancelled before it began");
  call = good;
  call.args.hidden.shape[1] = 63;
  CHECK_MESSAGE(code_of(call) == SE_INVALID_ARGUMENT, "wrong hidden size");
  call = good;
  call.args.select.top_p = 0;
  CHECK_MESSAGE(code_of(call) == SE_INVALID_ARGUMENT, "top_p 0");
  call = good;
  call.args.select.call_top_k = 3;
  CHECK_MESSAGE(code_of(call) == SE_INVALID_ARGUMENT, "call_top_k above top_k");
  const std::vector<int32_t> lengths = {1, 2};
  call = good;
  call.args.select.sequence_lengths = lengths.data();
  call.args.select.num_sequences = 2;
  CHECK_MESSAGE(code_of(call) == SE_INVALID_ARGUMENT, "sequences that do not sum to the tokens");
  CHECK_MESSAGE(code_of(good) == SE_OK, "the good call");
  SeStatus status{};
  SeForwardArgs args = good.args;
  CHECK_MESSAGE(backend.forward(layer.get(), &args, nullptr, 0, &status) == SE_INVALID_ARGUMENT,
                "no outputs");
  const DeviceMemory little(device, 64);
  const ForwardResult refused_call = run_on_device(layer, good, &little, 64);
  CHECK_MESSAGE(refused_call.code == SE_WORKSPACE_TOO_SMALL, "a workspace that is too small");
  CHECK_MESSAGE(refused_call.status.needed_bytes == workspace_bytes_of(layer, 4),
                "what a call needs is what was foretold");

  const auto refused = [&](const SeMoeLayer& description, const std::string& what) {
    const DeviceLayer opened(device, description);
    CHECK_MESSAGE(opened.code == SE_INVALID_ARGUMENT, what);
    CHECK_MESSAGE(opened.get() == nullptr, what);
  };
  SeMoeLayer broken = fixture.layer;
  broken.routing.top_k = 9;
  refused(broken, "top_k above num_experts");
  broken = fixture.layer;
  broken.routing.num_expert_groups = 3;
  refused(broken, "groups that do not divide");
  LayerOptions options;
  options.latent = 24, options.shared = 16;
  LayerFixture latent(options);
  latent.pointers(&latent.layer.latent_up)[0] = nullptr;
  refused(latent.layer, "no latent projection");
  LayerFixture shared(options);
  shared.pointers(&shared.layer.shared.gate)[0] = nullptr;
  refused(shared.layer, "half a shared expert");
  options.row_padding = 2;
  LayerFixture strides(options);
  strides.layer.experts.gate.row_stride -= 1;
  refused(strides.layer, "gate and up of different strides");
}

TEST_CASE("memory") {
  const OpenDevice opened;
  SeDevice* const device = opened.get();
  const SeBackend& backend = *se_backend_entry();
  SeStatus status{};
  void* data = nullptr;
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{4096}, uint64_t{9} << 20}) {
    CHECK_MESSAGE(backend.memory_allocate(device, bytes, &data, &status) == SE_OK,
                  "aligned memory");
    CHECK_MESSAGE(reinterpret_cast<uintptr_t>(data) % 64 == 0, "aligned memory");
    std::vector<char> values(bytes);
    for (uint64_t i = 0; i < bytes; ++i) values[i] = static_cast<char>(i * 7 + i / 251);
    std::vector<char> back(bytes);
    CHECK_MESSAGE(backend.copy_to_device(device, data, values.data(), bytes, &status) == SE_OK,
                  "copies there and back: ", bytes);
    CHECK_MESSAGE(backend.copy_to_host(device, back.data(), data, bytes, &status) == SE_OK,
                  "copies there and back: ", bytes);
    CHECK_MESSAGE(back == values, "copies there and back: ", bytes);
    backend.memory_free(device, data, bytes);
  }
  for (const uint64_t bytes : {uint64_t{1} << 50, ~uint64_t{0} - 100, ~uint64_t{0}}) {
    CHECK_MESSAGE(backend.memory_allocate(device, bytes, &data, &status) == SE_OUT_OF_MEMORY,
                  "an absurd size is refused");
    CHECK_MESSAGE(data == nullptr, "an absurd size is refused");
    CHECK_MESSAGE(status.needed_bytes == bytes, "an absurd size is refused");
    CHECK_MESSAGE(status.free_bytes > 0, "an absurd size is refused");
  }
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
