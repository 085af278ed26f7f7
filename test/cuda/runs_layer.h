// Layers whose experts come and go, and their forwards in steps, on a device through the backend's ABI.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "cuda/device_layer.h"
#include "oracle/fixture.h"

namespace native_test {

// A cached layer none of whose experts is here at first. Placed experts are copies in blocks of their own.
class CachedDeviceLayer {
 public:
  CachedDeviceLayer(SeDevice* device, const SeMoeLayer& host, int32_t batch_invariant = 0);
  ~CachedDeviceLayer();
  CachedDeviceLayer(const CachedDeviceLayer&) = delete;
  CachedDeviceLayer& operator=(const CachedDeviceLayer&) = delete;

  SeDevice* device() const { return all_.device(); }
  SeLayer* get() const { return opened_; }
  // The same layer with all of its experts.
  const DeviceLayer& resident() const { return all_; }
  const SeMoeLayer& description() const { return description_; }
  const SeLayerOptions& options() const { return options_; }
  int64_t num_experts() const { return description_.experts.num_experts; }

  int32_t place(const std::vector<int32_t>& experts);
  // Takes all away, and leaves NaN where they were as soon as the backend says that they are gone.
  void clear();
  int32_t set(const std::vector<int32_t>& experts, const std::vector<SeExpertMatrices>& matrices);

  int32_t code = SE_OK;
  SeStatus status{};

 private:
  SeExpertMatrices copy(int32_t expert);

  DeviceLayer all_;
  SeMoeLayer description_;
  SeLayerOptions options_{};
  SeLayer* opened_ = nullptr;
  std::vector<const void*> gate_, up_, down_;  // of the resident layer
  std::vector<DeviceMemory> absent_;
  std::vector<DeviceMemory> blocks_, old_blocks_;
  std::vector<int32_t> placed_;
};

// A call with results and a workspace of its own, all of it NaN.
struct StepCall {
  StepCall(const ForwardCall& call, SeDevice* device, const SeMoeLayer& layer,
           const SeLayerOptions& options);

  ForwardResult result;
  SeForwardArgs args;
  uint64_t workspace_bytes;
  DeviceMemory workspace;
};

// Runs a call in steps of `at_once` experts in a random order, those without slots among them. Each is
// here for its step only.
ForwardResult run_in_steps(CachedDeviceLayer& layer, const ForwardCall& call, int64_t at_once,
                           int64_t* num_waves = nullptr);

// A run by steps of each of these sizes has the bits of the resident layer's forward.
void check_steps(SeDevice* device, const LayerFixture& fixture, const ForwardCall& call,
                 const std::string& what, const std::vector<int64_t>& steps = {1, 3, 1 << 20});

}  // namespace native_test
