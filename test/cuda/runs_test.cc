// Forwards in steps: experts that come and go give the bits of the resident layer's one call.
#include <string>
#include <vector>

#include "cases.h"
#include "core/dtype.h"
#include "cpp/check.h"
#include "cuda/architecture.h"
#include "cuda/context.h"
#include "cuda/device_layer.h"
#include "cuda/runs_layer.h"
#include "oracle/fixture.h"

#if defined(SIMT_EMULATOR)
#include <simt/counters.h>
#endif

namespace native_test {
namespace {

TEST_SUITE_BEGIN("runs");

std::vector<char> random_hidden(LayerFixture* fixture, int64_t num_tokens, int32_t dtype) {
  return random_bytes(&fixture->random, num_tokens * fixture->layer.hidden_size, dtype, 1);
}

void check_kind(SeDevice* device, const LayerOptions& options, const std::string& name,
                int64_t num_tokens, int32_t hidden_dtype, const std::vector<int64_t>& steps) {
  LayerFixture fixture(options);
  const std::vector<char> hidden = random_hidden(&fixture, num_tokens, hidden_dtype);
  check_steps(device, fixture, ForwardCall(fixture, hidden, hidden_dtype),
              name + " T=" + std::to_string(num_tokens), steps);
}

TEST_CASE("every kind of layer, in every dtype") {
  const OpenDevice opened;
  for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
    for (const auto& [name, kind] : layer_kinds()) {
      LayerOptions options = kind;
      options.dtype = dtype;
      // What depends on the order of threads is in one call; the rest under the first schedule.
      check_kind(opened.get(), options, name, 9, dtype, {2});
      if (!is_first_schedule()) continue;
      check_kind(opened.get(), options, name, 1, SE_F32, {1, 1 << 20});
      if (dtype == SE_F32) check_kind(opened.get(), options, name, 0, dtype, {1});
    }
  }
}

LayerOptions shared_options() {
  LayerOptions options;
  options.shared = 40, options.num_experts = 16, options.top_k = 4;
  return options;
}

// Steps of few experts take the configurations of the whole wave: K is split for one token, and is not
// for forty.
TEST_CASE("large enough that K is split" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  for (const int32_t dtype : {SE_F32, SE_BF16}) {
    LayerOptions options = shared_options();
    options.hidden_size = 512, options.intermediate = 256, options.dtype = dtype;
    for (const int64_t num_tokens : {1, 2, 40})
      check_kind(opened.get(), options, "wide", num_tokens, dtype, {1, 5});
  }
}

TEST_CASE("a shared expert unlike the routed ones" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  LayerOptions options = shared_options();
  options.dtype = SE_BF16;
  LayerFixture routed(options);
  options.dtype = SE_F32;
  LayerFixture other(options);
  routed.layer.shared = other.layer.shared;
  const std::vector<char> hidden = random_hidden(&routed, 9, SE_F16);
  check_steps(opened.get(), routed, ForwardCall(routed, hidden, SE_F16), "of another dtype");
}

TEST_CASE("more tokens than one wave holds" * doctest::test_suite("abi")) {
  const OpenDevice opened("SPARSE_EXPERTS_CUDA_WAVE_BYTES", "65536");
  for (const auto& [name, kind] : layer_kinds()) {
    if (name != "latent" && name != "weight on input" && name != "identity") continue;
    LayerOptions options = kind;
    options.dtype = SE_BF16;
    LayerFixture fixture(options);
    const std::vector<char> hidden = random_hidden(&fixture, 200, SE_F32);
    const ForwardCall call(fixture, hidden, SE_F32);
    CachedDeviceLayer layer(opened.get(), fixture.layer);
    const ForwardResult whole = run_on_device(layer.resident(), call);
    int64_t num_waves = 0;
    const ForwardResult part = run_in_steps(layer, call, 3, &num_waves);
    CHECK_MESSAGE(num_waves > 1, std::string(name));
    CHECK_MESSAGE(part.code == SE_OK, std::string(part.status.message));
    check_same_bits(part.output, whole.output, std::string("waves in steps: ") + name);
    check_same_bits(part.flags, whole.flags, std::string("waves in steps: ") + name);
  }
}

// Arrays that do not fit the layer's own staging.
TEST_CASE("a large call" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  LayerOptions options;
  options.hidden_size = 2048, options.intermediate = 8, options.num_experts = 4, options.top_k = 1;
  LayerFixture fixture(options);
  std::vector<char> hidden = random_hidden(&fixture, 530, SE_F32);
  reinterpret_cast<float*>(hidden.data())[9 * 2048] = NAN;
  check_steps(opened.get(), fixture, ForwardCall(fixture, hidden, SE_F32), "a large call", {3});
}

TEST_CASE("rows that are not finite need no expert, and keep their flags") {
  const OpenDevice opened;
  LayerOptions options = shared_options();
  for (const int64_t latent : {0, 32}) {
    options.latent = latent;
    LayerFixture fixture(options);
    std::vector<char> hidden = random_hidden(&fixture, 9, SE_F32);
    auto* const values = reinterpret_cast<float*>(hidden.data());
    values[2 * 64 + 5] = NAN;
    values[6 * 64] = INFINITY;
    values[7 * 64 + 1] = 3e38F;  // the experts overflow
    check_steps(opened.get(), fixture, ForwardCall(fixture, hidden, SE_F32), "not finite", {1, 7});
    // Nothing but such rows: no expert at all.
    const std::vector<char> one(hidden.begin() + 2 * 64 * 4, hidden.begin() + 3 * 64 * 4);
    check_steps(opened.get(), fixture, ForwardCall(fixture, one, SE_F32), "one such row", {1});
  }
}

TEST_CASE("capacity, budgets and replayed ids with repeats" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  LayerOptions options;
  options.num_experts = 10, options.num_identity = 2, options.top_k = 3;
  LayerFixture fixture(options);
  const std::vector<char> hidden = random_hidden(&fixture, 6, SE_F32);
  ForwardCall call(fixture, hidden, SE_F32);
  const std::vector<uint8_t> kept = {0, 1, 2, 3, 0, 3};
  call.args.select.row_top_k = kept.data();
  check_steps(opened.get(), fixture, call, "budgets");
  call.args.select.row_top_k = nullptr;
  call.args.replay = 1;
  std::vector<int32_t> ids = {-1, -1, -1, 4, 4, 4, 0, -1, 0, 9, 8, 9, 7, 2, 2, -1, 8, 1};
  std::vector<float> weights(18, 0.25F);
  call.args.select.topk_ids = ids.data();
  call.args.select.topk_weights = weights.data();
  check_steps(opened.get(), fixture, call, "replay");

  LayerOptions narrow;
  narrow.num_experts = 4;
  LayerFixture full(narrow);
  full.layer.routing.capacity = SE_CAPACITY_BATCH;
  full.layer.routing.expert_capacity = 5;
  const std::vector<char> many = random_hidden(&full, 30, SE_F32);
  check_steps(opened.get(), full, ForwardCall(full, many, SE_F32), "capacity");
}

TEST_CASE("arrays on the device" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  LayerFixture fixture(shared_options());
  const int64_t num_tokens = 11, hidden_size = fixture.layer.hidden_size;
  const std::vector<char> hidden = random_hidden(&fixture, num_tokens, SE_F32);
  ForwardCall call(fixture, hidden, SE_F32);
  CachedDeviceLayer layer(opened.get(), fixture.layer);
  const ForwardResult whole = run_on_device(layer.resident(), call);
  const DeviceMemory input = to_device(opened.get(), hidden);
  const DeviceMemory output(opened.get(), num_tokens * hidden_size * 4);
  call.args.device_arrays = SE_ARRAY_HIDDEN | SE_ARRAY_OUTPUT;
  call.args.hidden.data = input.as<>();
  call.args.output = call.args.hidden;
  call.args.output.data = output.as<>();
  const ForwardResult part = run_in_steps(layer, call, 3);
  CHECK(part.code == SE_OK);
  check_same_bits(output.download(), whole.output, "arrays on the device");
  check_same_bits(part.ids, whole.ids, "arrays on the device: ids");
}

// The arrays of a call that the caller writes to where the device copies from.
TEST_CASE("a staged call" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  const SeBackend& backend = *se_backend_entry();
  LayerFixture fixture(shared_options());
  const std::vector<char> hidden = random_hidden(&fixture, 5, SE_F32);
  const ForwardCall call(fixture, hidden, SE_F32);
  CachedDeviceLayer layer(opened.get(), fixture.layer);
  const ForwardResult whole = run_on_device(layer.resident(), call);
  StepCall own(call, opened.get(), layer.description(), layer.options());
  SeForwardArgs staged = own.args;
  SeStatus status{};
  REQUIRE(backend.stage_forward(layer.get(), &staged, &status) == SE_OK);
  REQUIRE(staged.is_staged != 0);
  std::memcpy(staged.hidden.data, hidden.data(), hidden.size());
  std::vector<int32_t> all;
  for (int32_t e = 0; e < layer.num_experts(); ++e) all.push_back(e);
  CHECK(layer.place(all) == SE_OK);
  CHECK(backend.forward(layer.get(), &staged, own.workspace.as<>(), own.workspace_bytes, &status) ==
        SE_OK);
  CHECK(std::memcmp(staged.output.data, whole.output.data(), whole.output.size()) == 0);
  CHECK(std::memcmp(staged.select.topk_ids, whole.ids.data(), whole.ids.size() * 4) == 0);
  backend.unstage_forward(layer.get());
}

#if defined(SIMT_EMULATOR)
// Their tensor maps come and go with the experts.
TEST_CASE("matmuls on warp-group instructions") {
  const Architecture hopper("90");
  const OpenDevice opened;
  simt::reset_counters();
  for (const auto& [name, kind] : layer_kinds()) {
    LayerOptions options = kind;
    options.dtype = SE_BF16;
    LayerFixture fixture(options);
    const std::vector<char> hidden = random_hidden(&fixture, 120, SE_BF16);
    check_steps(opened.get(), fixture, ForwardCall(fixture, hidden, SE_BF16), name, {3});
  }
  const uint64_t launches = simt::counters("wg_expert_matmul").launches;
  CHECK_MESSAGE(launches > 20, launches, " launches on wgmma, of residents and of steps");
}
#endif

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
