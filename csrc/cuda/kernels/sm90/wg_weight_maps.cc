// Tensor maps of the weights for the warp-group matmul. A box is a stage's weights: kWgBoxK columns of
// 128 rows. Gated, the box takes 8 rows of gate, 8 of up, the next 8 of gate, …: a tensor of four
// dimensions, K, 8 rows, gate or up, groups of 8 rows, whose third stride is the distance of the two
// matrices.
#include <cstdint>
#include <cstring>

#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/kernels/sm90/wg_expert_matmul_tile.cuh"
#include "cuda/runtime/tensor_map.h"

namespace sparse_experts::cuda {
namespace {

constexpr uint64_t kUnit = 16;  // bytes at multiples of which everything begins
constexpr uint64_t kMostStride = uint64_t{1} << 40;
constexpr int64_t kMostSize = INT32_MAX;  // coordinates are 32 bits

uint64_t address_of(const void* matrix) { return reinterpret_cast<uintptr_t>(matrix); }

bool sizes_fit(const WeightMatrices& matrices) {
  const auto row_bytes = static_cast<uint64_t>(matrices.row_stride) * 2;
  return matrices.rows > 0 && matrices.cols > 0 && matrices.rows <= kMostSize &&
         matrices.cols <= kMostSize && matrices.cols % 8 == 0 && row_bytes % kUnit == 0 &&
         row_bytes * kWgBoxRows < kMostStride &&
         (!matrices.gated || matrices.rows % kWgBoxRows == 0);
}

TensorDescription describe_plain(const WeightMatrices& matrices, const void* matrix) {
  TensorDescription tensor = {};
  tensor.dtype = matrices.dtype;
  tensor.rank = 2;
  tensor.address = matrix;
  tensor.sizes[0] = static_cast<uint64_t>(matrices.cols);
  tensor.sizes[1] = static_cast<uint64_t>(matrices.rows);
  tensor.strides[0] = static_cast<uint64_t>(matrices.row_stride) * 2;
  tensor.box[0] = kWgBoxK;
  tensor.box[1] = kWgTileRows;
  return tensor;
}

TensorDescription describe_gated(const WeightMatrices& matrices, const void* gate,
                                 uint64_t distance) {
  const auto row_bytes = static_cast<uint64_t>(matrices.row_stride) * 2;
  TensorDescription tensor = {};
  tensor.dtype = matrices.dtype;
  tensor.rank = 4;
  tensor.address = gate;
  tensor.sizes[0] = static_cast<uint64_t>(matrices.cols);
  tensor.sizes[1] = kWgBoxRows;
  tensor.sizes[2] = 2;
  tensor.sizes[3] = static_cast<uint64_t>(matrices.rows) / kWgBoxRows;
  tensor.strides[0] = row_bytes;
  tensor.strides[1] = distance;
  tensor.strides[2] = row_bytes * kWgBoxRows;
  tensor.box[0] = kWgBoxK;
  tensor.box[1] = kWgBoxRows;
  tensor.box[2] = 2;
  tensor.box[3] = kWgTileRows / 2 / kWgBoxRows;
  return tensor;
}

}  // namespace

bool encode_wg_weight_maps(const WeightMatrices& matrices, void* maps) {
  if (!sizes_fit(matrices)) return false;
  auto* map = static_cast<unsigned char*>(maps);
  for (int64_t e = 0; e < matrices.count; ++e, map += kWeightMapBytes) {
    const void* up = matrices.up[e];
    const void* gate = matrices.gated ? matrices.gate[e] : up;
    if (up == nullptr || gate == nullptr) {
      std::memset(map, 0, kWeightMapBytes);
      continue;
    }
    if (address_of(up) % kUnit != 0 || address_of(gate) % kUnit != 0) return false;
    TensorDescription tensor = {};
    if (matrices.gated) {
      if (address_of(up) <= address_of(gate)) return false;
      const uint64_t distance = address_of(up) - address_of(gate);
      if (distance >= kMostStride) return false;
      tensor = describe_gated(matrices, gate, distance);
    } else {
      tensor = describe_plain(matrices, up);
    }
    if (!encode_tensor_map(tensor, map)) return false;
  }
  return true;
}

}  // namespace sparse_experts::cuda
