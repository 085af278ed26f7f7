// What a run refuses, and what it needs to go on.
#include <cstring>
#include <string>
#include <vector>

#include "cpp/check.h"
#include "cuda/device_layer.h"
#include "cuda/one_token.h"
#include "cuda/runs_layer.h"
#include "oracle/fixture.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("runs");

const SeBackend& backend() { return *se_backend_entry(); }

TEST_CASE("a wave says which experts it needs" * doctest::test_suite("abi")) {
  const OneToken one;
  for (int32_t e = 0; e < 8; ++e) {
    const bool is_needed = e == one.needed[0] || e == one.needed[1];
    CHECK((one.wave.expert_offsets[e + 1] > one.wave.expert_offsets[e]) == is_needed);
  }
}

TEST_CASE("an expert that is needed and absent is an error, never a smaller sum" *
          doctest::test_suite("abi")) {
  OneToken one;
  CHECK(one.finish() == SE_INTERNAL);
  CHECK(one.compute(one.needed) == SE_INTERNAL);
  CHECK(one.layer.place({one.needed[0]}) == SE_OK);
  CHECK(one.compute(one.needed) == SE_INTERNAL);
  CHECK(one.compute_rest() == SE_INTERNAL);
  CHECK(one.compute({one.needed[0]}) == SE_OK);
  CHECK(one.finish() == SE_INTERNAL);
  CHECK(one.own.result.output[0] == '\xff');
  // The run goes on once it is there.
  CHECK(one.layer.place({one.needed[1]}) == SE_OK);
  CHECK(one.compute_rest() == SE_OK);
  one.layer.clear();
  CHECK(one.finish() == SE_OK);
  one.check_result("after errors");
}

TEST_CASE("a plain forward of a cached layer needs its experts too" * doctest::test_suite("abi")) {
  OneToken one;
  one.end();
  const auto forward = [&] {
    return backend().forward(one.layer.get(), &one.own.args, one.own.workspace.as<>(),
                             one.own.workspace_bytes, &one.status);
  };
  CHECK(forward() == SE_INTERNAL);
  CHECK(one.layer.place({one.needed[1]}) == SE_OK);
  CHECK(forward() == SE_INTERNAL);
  CHECK(one.layer.place({one.needed[0]}) == SE_OK);
  for (int i = 0; i < 3; ++i) CHECK(forward() == SE_OK);
  one.check_result("a plain forward");
  CHECK(one.opened.counters().graph_captures == 0);
  one.layer.clear();
  CHECK(forward() == SE_INTERNAL);
}

TEST_CASE("rows that the caller writes take the place of experts" * doctest::test_suite("abi")) {
  OneToken one;
  SeTensor rows{};
  const auto rows_of = [&](const std::vector<int32_t>& experts) {
    return backend().forward_slot_rows(one.run, experts.data(),
                                       static_cast<int64_t>(experts.size()), &rows, &one.status);
  };
  CHECK(one.layer.place(one.needed) == SE_OK);
  CHECK(one.compute(one.needed) == SE_OK);
  CHECK(rows_of({}) == SE_OK);
  REQUIRE(rows.shape[0] == 2);
  REQUIRE(rows.shape[1] == 64);
  std::vector<float> values(2 * 64);
  const uint64_t row_bytes = 64 * sizeof(float);
  REQUIRE(backend().copy_to_host(one.opened.get(), values.data(), rows.data, 2 * row_bytes,
                                 &one.status) == SE_OK);
  one.layer.clear();
  // One of the two, then both: the shared expert is computed all the same.
  for (const size_t given : {1, 2}) {
    one.end();
    one.begin_wave();
    if (given == 1) {
      CHECK(one.layer.place({one.needed[1]}) == SE_OK);
      CHECK(one.compute({one.needed[1]}) == SE_OK);
      one.layer.clear();
    }
    CHECK(rows_of({one.needed.begin(), one.needed.begin() + static_cast<int64_t>(given)}) == SE_OK);
    REQUIRE(backend().copy_to_device(one.opened.get(), rows.data, values.data(), given * row_bytes,
                                     &one.status) == SE_OK);
    CHECK(one.finish() == SE_OK);
    one.check_result("rows of the caller");
  }
}

TEST_CASE("what breaks the order of a run, or names no expert, is refused" *
          doctest::test_suite("abi")) {
  OneToken one;
  CHECK(backend().forward_wave(one.run, &one.wave, &one.status) == SE_INVALID_ARGUMENT);
  for (const int32_t wrong : {-1, 8, INT32_MAX, INT32_MIN}) {
    CHECK(one.compute({wrong}) == SE_INVALID_ARGUMENT);
    CHECK(one.layer.set({wrong}, {{}}) == SE_INVALID_ARGUMENT);
  }
  const int32_t idle = one.needed[0] == 0 || one.needed[1] == 0 ? 7 : 0;
  CHECK(one.compute({one.needed[0], one.needed[0]}) == SE_INVALID_ARGUMENT);
  const float value = 0;
  CHECK(one.layer.set({idle}, {{nullptr, &value, nullptr}}) == SE_INVALID_ARGUMENT);
  CHECK(one.layer.set({idle}, {{nullptr, &value, &value}}) == SE_INVALID_ARGUMENT);
  CHECK(one.layer.place(one.needed) == SE_OK);
  CHECK(one.compute(one.needed) == SE_OK);
  CHECK(one.compute({one.needed[1]}) == SE_INVALID_ARGUMENT);
  CHECK(one.finish() == SE_OK);
  CHECK(one.finish() == SE_INVALID_ARGUMENT);
  CHECK(one.compute({}) == SE_INVALID_ARGUMENT);
  CHECK(backend().forward_wave(one.run, &one.wave, &one.status) == SE_OK);
  CHECK(one.wave.num_tokens == 0);
  one.check_result("after refusals");
  const int32_t expert = 0;
  const SeExpertMatrices none{};
  CHECK(backend().layer_set_experts(one.layer.resident().get(), &expert, 1, &none, &one.status) ==
        SE_INVALID_ARGUMENT);
}

TEST_CASE("a run begins with the checks of a forward, and an abort stops it" *
          doctest::test_suite("abi")) {
  OneToken one;
  one.end();
  SeForwardArgs args = one.own.args;
  const auto begin = [&](uint64_t bytes) {
    return backend().forward_begin(one.layer.get(), &args, one.own.workspace.as<>(), bytes,
                                   &one.run, &one.status);
  };
  CHECK(begin(one.own.workspace_bytes - 1) == SE_WORKSPACE_TOO_SMALL);
  CHECK(one.status.needed_bytes == one.own.workspace_bytes);
  CHECK(one.run == nullptr);
  args.hidden.shape[1] = 63;
  CHECK(begin(one.own.workspace_bytes) == SE_INVALID_ARGUMENT);
  args = one.own.args;
  int32_t cancel = 1;
  args.cancel = &cancel;
  CHECK(begin(one.own.workspace_bytes) == SE_CANCELLED);
  CHECK(one.run == nullptr);
  cancel = 0;
  CHECK(begin(one.own.workspace_bytes) == SE_OK);
  CHECK(backend().forward_wave(one.run, &one.wave, &one.status) == SE_OK);
  CHECK(one.layer.place(one.needed) == SE_OK);
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
