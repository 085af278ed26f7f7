// A layer of 8 experts, two of which the token of a run needs.
#pragma once

#include <string>
#include <vector>

#include "cpp/check.h"
#include "cuda/device_layer.h"
#include "cuda/runs_layer.h"
#include "oracle/fixture.h"
#include "oracle/run_in_steps.h"
#include "oracle/run_rules.h"

namespace native_test {

// What run_rules.h asks for, on a device.
struct OneToken : RunInSteps {
  const OpenDevice device;
  LayerFixture fixture{options_of_eight()};
  const std::vector<char> hidden = random_bytes(&fixture.random, 64, SE_F32, 1);
  const ForwardCall call{fixture, hidden, SE_F32};
  CachedDeviceLayer layer{device.get(), fixture.layer};
  const ForwardResult whole = run_on_device(layer.resident(), call);
  StepCall own{call, device.get(), layer.description(), layer.options()};
  const std::vector<int32_t> needed = {whole.ids[0], whole.ids[1]};

  OneToken() {
    REQUIRE(layer.code == SE_OK);
    backend = se_backend_entry();
    opened = layer.get();
    args = &own.args;
    workspace = own.workspace.as<>();
    workspace_bytes = own.workspace_bytes;
    begin_wave();
  }
  ~OneToken() { end(); }
  OneToken(const OneToken&) = delete;
  OneToken& operator=(const OneToken&) = delete;

  SeLayer* resident() const { return layer.resident().get(); }
  void read_rows(const SeTensor& rows, void* to, uint64_t bytes) {
    REQUIRE(backend->copy_to_host(device.get(), to, rows.data, bytes, &status) == SE_OK);
  }
  void write_rows(const SeTensor& rows, const void* from, uint64_t bytes) {
    REQUIRE(backend->copy_to_device(device.get(), rows.data, from, bytes, &status) == SE_OK);
  }
  void check_result(const std::string& what) const {
    check_same_bits(own.result.output, whole.output, what);
    check_same_bits(own.result.flags, whole.flags, what + ": flags");
  }
};

}  // namespace native_test
