// A forward in steps, through a backend's ABI.
#pragma once

#include <cstdint>
#include <vector>

#include "abi/backend.h"
#include "cpp/check.h"

namespace native_test {

// One run. Whoever has it gives it its call, and ends it before the layer goes.
struct RunInSteps {
  const SeBackend* backend = nullptr;
  SeLayer* opened = nullptr;
  const SeForwardArgs* args = nullptr;
  void* workspace = nullptr;
  uint64_t workspace_bytes = 0;
  SeForwardRun* run = nullptr;
  SeForwardWave wave{};
  SeStatus status{};

  int32_t begin() {
    return backend->forward_begin(opened, args, workspace, workspace_bytes, &run, &status);
  }
  // Of a call of one token, which has one wave.
  void begin_wave() {
    REQUIRE(begin() == SE_OK);
    REQUIRE(backend->forward_wave(run, &wave, &status) == SE_OK);
    REQUIRE(wave.num_tokens == 1);
  }
  void end() {
    backend->forward_end(run);
    run = nullptr;
  }
  int32_t next_wave() { return backend->forward_wave(run, &wave, &status); }
  int32_t compute(const std::vector<int32_t>& experts) {
    return backend->forward_experts(run, experts.data(), static_cast<int64_t>(experts.size()),
                                    &status);
  }
  int32_t compute_rest() { return backend->forward_experts(run, nullptr, 0, &status); }
  int32_t slot_rows(const std::vector<int32_t>& experts, SeTensor* rows) {
    return backend->forward_slot_rows(run, experts.data(), static_cast<int64_t>(experts.size()),
                                      rows, &status);
  }
  int32_t finish() { return backend->forward_finish(run, &status); }
  // The whole call at once.
  int32_t forward() { return backend->forward(opened, args, workspace, workspace_bytes, &status); }
};

}  // namespace native_test
