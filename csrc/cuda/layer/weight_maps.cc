#include "cuda/layer/weight_maps.h"

#include <vector>

#include "cuda/layouts/stored_layout.h"
#include "cuda/ops/weight_maps.h"
#include "cuda/runtime/device.h"
#include "cuda/variants.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// One kind of matrices of the routed or the shared experts.
struct MapSet {
  const SeExperts* experts;
  bool is_down;
  const void* LayerMaps::* place;
};
std::vector<MapSet> sets_of(const SeMoeLayer& layer) {
  return {{&layer.experts, false, &LayerMaps::gate_up},
          {&layer.experts, true, &LayerMaps::down},
          {&layer.shared, false, &LayerMaps::shared_gate_up},
          {&layer.shared, true, &LayerMaps::shared_down}};
}

bool can_describe(const Device& device, const MapSet& set) {
  return set.experts->num_experts > 0 &&
         reads_maps(device, describe_matrices(*set.experts, set.is_down));
}

}  // namespace

WeightMatrices describe_matrices(const SeExperts& experts, bool is_down) {
  const SeMatrixTable& table = is_down ? experts.down : experts.up;
  WeightMatrices matrices = {};
  matrices.dtype = codes_of(table) != nullptr ? kNoMaps : experts.dtype;
  matrices.gated = !is_down && experts.activation.gated != 0;
  matrices.rows = table.rows;
  matrices.cols = table.cols;
  matrices.row_stride = table.row_stride;
  return matrices;
}

bool reads_maps(const Device& device, const WeightMatrices& matrices) {
  return device.warp_groups() && encode_weight_maps(matrices, device.limits().device, nullptr);
}

Status WeightMaps::open(const SeMoeLayer& layer, bool with_routed) {
  std::vector<unsigned char> encoded;
  std::vector<std::pair<MapSet, size_t>> found;
  for (const MapSet& set : sets_of(layer)) {
    if (!can_describe(device_, set)) continue;
    if (set.experts == &layer.experts && !with_routed) continue;
    WeightMatrices matrices = describe_matrices(*set.experts, set.is_down);
    const auto count = static_cast<size_t>(set.experts->num_experts);
    std::vector<const void*> up(count);
    std::vector<const void*> gate(matrices.gated ? count : 0);
    const SeMatrixTable& table = set.is_down ? set.experts->down : set.experts->up;
    SE_RETURN_IF_ERROR(device_.copier().to_host(up.data(), table.data, count * sizeof(void*)));
    if (matrices.gated)
      SE_RETURN_IF_ERROR(
          device_.copier().to_host(gate.data(), set.experts->gate.data, count * sizeof(void*)));
    matrices.count = set.experts->num_experts;
    matrices.up = up.data();
    matrices.gate = gate.data();
    const size_t at = encoded.size();
    encoded.resize(at + count * static_cast<size_t>(kWeightMapBytes));
    if (encode_weight_maps(matrices, device_.limits().device, encoded.data() + at)) {
      found.emplace_back(set, at);
    } else {
      encoded.resize(at);
    }
  }
  if (found.empty()) return Status::ok();
  SE_RETURN_IF_ERROR(memory_.reserve(encoded.size()));
  SE_RETURN_IF_ERROR(device_.copier().to_device(memory_.data(), encoded.data(), encoded.size()));
  for (const auto& [set, at] : found) maps_.*set.place = memory_.data() + at;
  return Status::ok();
}

BulkReady expect_maps(const Device& device, const SeMoeLayer& layer) {
  LayerMaps expected;
  for (const MapSet& set : sets_of(layer)) {
    if (can_describe(device, set)) expected.*set.place = &layer;
  }
  return expected.ready();
}

}  // namespace sparse_experts::cuda
