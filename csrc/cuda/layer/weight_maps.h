// Tensor maps of a layer's expert matrices, for the kernels that read weights by bulk copies. Made when
// the layer is opened: its tables do not change afterwards, but for those of a cached layer's routed
// experts, which expert_tables.h keeps.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/layer/forward_plan.h"
#include "cuda/ops/weight_maps.h"
#include "cuda/runtime/memory.h"

namespace sparse_experts::cuda {

class Device;

// On the device, one for each expert; null where the kernels of this device read none, or the matrices
// cannot be described so.
struct LayerMaps {
  const void* gate_up = nullptr;
  const void* down = nullptr;
  const void* shared_gate_up = nullptr;
  const void* shared_down = nullptr;

  BulkReady ready() const {
    return {gate_up != nullptr, down != nullptr, shared_gate_up != nullptr, shared_down != nullptr};
  }
};

class WeightMaps {
 public:
  explicit WeightMaps(Device& device) : device_(device), memory_(device) {}

  // Reads the layer's tables back. with_routed: of the routed experts too.
  Status open(const SeMoeLayer& layer, bool with_routed);
  const LayerMaps& maps() const { return maps_; }

 private:
  Device& device_;
  DeviceBuffer memory_;
  LayerMaps maps_;
};

// Sizes and strides of the down matrices of experts, or of the gate and up matrices, without addresses.
WeightMatrices describe_matrices(const SeExperts& experts, bool is_down);
// Whether kernels of the device read such matrices by maps, where they lie well.
bool reads_maps(const Device& device, const WeightMatrices& matrices);

// What open would make of a layer whose matrices lie well, by its sizes and strides alone.
BulkReady expect_maps(const Device& device, const SeMoeLayer& layer);

}  // namespace sparse_experts::cuda
