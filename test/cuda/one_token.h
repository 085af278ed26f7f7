// A layer of 8 experts, two of which the token of a run needs.
#pragma once

#include <string>
#include <vector>

#include "cpp/check.h"
#include "cuda/device_layer.h"
#include "cuda/runs_layer.h"
#include "oracle/fixture.h"

namespace native_test {

inline LayerOptions options_of_eight() {
  LayerOptions options;
  options.shared = 24;
  return options;
}

// A layer of 8 experts in the middle of a run of one token.
struct OneToken {
  const OpenDevice opened;
  LayerFixture fixture{options_of_eight()};
  const std::vector<char> hidden = random_bytes(&fixture.random, 64, SE_F32, 1);
  const ForwardCall call{fixture, hidden, SE_F32};
  CachedDeviceLayer layer{opened.get(), fixture.layer};
  const ForwardResult whole = run_on_device(layer.resident(), call);
  StepCall own{call, opened.get(), layer.description(), layer.options()};
  SeForwardRun* run = nullptr;
  SeForwardWave wave{};
  const std::vector<int32_t> needed = {whole.ids[0], whole.ids[1]};
  SeStatus status{};

  OneToken() {
    REQUIRE(layer.code == SE_OK);
    begin_wave();
  }
  ~OneToken() { end(); }
  OneToken(const OneToken&) = delete;
  OneToken& operator=(const OneToken&) = delete;

  int32_t begin() {
    return se_backend_entry()->forward_begin(layer.get(), &own.args, own.workspace.as<>(),
                                             own.workspace_bytes, &run, &status);
  }
  void begin_wave() {
    REQUIRE(begin() == SE_OK);
    REQUIRE(se_backend_entry()->forward_wave(run, &wave, &status) == SE_OK);
    REQUIRE(wave.num_tokens == 1);
  }
  void end() {
    se_backend_entry()->forward_end(run);
    run = nullptr;
  }
  int32_t compute(const std::vector<int32_t>& experts) {
    return se_backend_entry()->forward_experts(run, experts.data(),
                                               static_cast<int64_t>(experts.size()), &status);
  }
  int32_t compute_rest() { return se_backend_entry()->forward_experts(run, nullptr, 0, &status); }
  int32_t finish() { return se_backend_entry()->forward_finish(run, &status); }
  void check_result(const std::string& what) const {
    check_same_bits(own.result.output, whole.output, what);
    check_same_bits(own.result.flags, whole.flags, what + ": flags");
  }
};

}  // namespace native_test
