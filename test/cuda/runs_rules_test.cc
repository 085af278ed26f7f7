// What a run refuses, and what it needs to go on.
#include <string>
#include <vector>

#include "cpp/check.h"
#include "cuda/device_layer.h"
#include "cuda/one_token.h"
#include "cuda/runs_layer.h"
#include "oracle/fixture.h"
#include "oracle/run_rules.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("runs");

const SeBackend& backend() { return *se_backend_entry(); }

TEST_CASE("a wave says which experts it needs" * doctest::test_suite("abi")) {
  check_wave_says_what_it_needs<OneToken>();
}

TEST_CASE("a description says that experts come" * doctest::test_suite("abi")) {
  const OneToken one;
  const auto dispatch = [&](const SeLayerOptions& options) {
    SeForwardDescription text{};
    backend().describe_forward(one.device.get(), &one.layer.description(), &options, 5, &text);
    return std::string(text.dispatch);
  };
  CHECK(dispatch(one.layer.options()).find("in steps") != std::string::npos);
  CHECK(dispatch(SeLayerOptions{}).find("in steps") == std::string::npos);
}

TEST_CASE("an expert that is needed and absent is an error, never a smaller sum" *
          doctest::test_suite("abi")) {
  check_absent_expert_is_error<OneToken>();
}

TEST_CASE("a plain forward of a cached layer needs its experts too" * doctest::test_suite("abi")) {
  OneToken one;
  check_plain_forward_needs_experts(one);
  CHECK(one.device.counters().graph_captures == 0);
}

TEST_CASE("rows that the caller writes take the place of experts" * doctest::test_suite("abi")) {
  check_rows_of_caller<OneToken>();
}

TEST_CASE("what breaks the order of a run, or names no expert, is refused" *
          doctest::test_suite("abi")) {
  check_order<OneToken>();
}

TEST_CASE("a run begins with the checks of a forward, and an abort stops it" *
          doctest::test_suite("abi")) {
  OneToken one;
  int32_t cancel = 0;
  check_begin(one, &cancel);
  cancel = 1;
  CHECK(one.compute(one.needed) == SE_CANCELLED);
  CHECK(one.finish() == SE_INTERNAL);
  cancel = 0;
  CHECK(one.compute(one.needed) == SE_OK);
  cancel = 1;
  CHECK(one.finish() == SE_CANCELLED);
}

// An expert that is nowhere is left out by a layer that is not a cached one, in a run too; and such a
// layer's plain forwards are recorded as before.
TEST_CASE("a run of a layer whose experts stay" * doctest::test_suite("abi")) {
  const OpenDevice opened;
  LayerFixture fixture(options_of_eight());
  for (int e = 0; e < 8; e += 3) fixture.pointers(&fixture.layer.experts.down)[e] = nullptr;
  const std::vector<char> hidden = random_bytes(&fixture.random, 6 * 64, SE_F32, 1);
  const ForwardCall call(fixture, hidden, SE_F32);
  const DeviceLayer layer(opened.get(), fixture.layer);
  const ForwardResult whole = run_on_device(layer, call);
  StepCall own(call, opened.get(), layer.description(), layer.options());
  SeForwardRun* run = nullptr;
  SeForwardWave wave{};
  SeStatus status{};
  REQUIRE(backend().forward_begin(layer.get(), &own.args, own.workspace.as<>(), own.workspace_bytes,
                                  &run, &status) == SE_OK);
  CHECK(backend().forward_wave(run, &wave, &status) == SE_OK);
  for (int e = 0; e < 8; e += 3) CHECK(wave.expert_offsets[e + 1] == wave.expert_offsets[e]);
  for (const int32_t expert : {4, 0, 7})
    CHECK(backend().forward_experts(run, &expert, 1, &status) == SE_OK);
  CHECK(backend().forward_experts(run, nullptr, 0, &status) == SE_OK);
  CHECK(backend().forward_finish(run, &status) == SE_OK);
  backend().forward_end(run);
  check_same_bits(own.result.output, whole.output, "absent experts are left out");
  const SeDeviceCounters before = opened.counters();
  for (int i = 0; i < 3; ++i)
    check_same_bits(run_on_device(layer, call, &own.workspace, own.workspace_bytes).output,
                    whole.output, "a plain forward");
  CHECK(opened.counters().graph_captures == before.graph_captures + 1);
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
