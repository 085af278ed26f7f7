// Where bulk copies by tensor maps put what they read.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "conformance/case_builder.cuh"
#include "conformance90/kernels.cuh"
#include "conformance90/report.h"
#include "cuda/kernels/sm90/wg_expert_matmul.h"
#include "cuda/kernels/sm90/wg_expert_matmul_tile.cuh"

namespace conformance90 {

using conformance::Random;
using sparse_experts::cuda::encode_wg_weight_maps;
using sparse_experts::cuda::kWeightMapBytes;
using sparse_experts::cuda::WeightMatrices;

// The box at column x and row `row` of the matrices, against what should lie in shared memory: chunk c of row
// r at c ^ r % 8, rows beyond the matrix zero.
inline void check_box(const std::string& name, const WeightMatrices& matrices, int64_t distance,
               const std::vector<uint16_t>& values, const DeviceArray<uint8_t>& maps, int32_t x,
               int32_t row) {
  constexpr int kBoxRows = sparse_experts::cuda::kWgTileRows;
  const DeviceArray<uint4> out(kBoxRows * kChunks);
  const BoxPlace place = {matrices.gated, x, matrices.gated ? row / 8 : row, kBoxRows * kRowBytes};
  run(box_kernel, 1, 128, kAlignment + kBoxRows * kRowBytes, static_cast<const void*>(maps.data()),
      place, true, out.data());
  const std::vector<uint4> got = out.download();
  std::vector<uint16_t> halves(got.size() * 8);
  std::memcpy(halves.data(), got.data(), got.size() * sizeof(uint4));
  size_t wrong = 0;
  for (int r = 0; r < kBoxRows; ++r) {
    // Gated: 8 rows of gate, 8 of up.
    const int64_t matrix_row = row + (matrices.gated ? r / 16 * 8 + r % 8 : r);
    const int64_t begin = (matrices.gated && r / 8 % 2 == 1 ? distance : 0) +
                          matrix_row * matrices.row_stride;
    for (int c = 0; c < kDepth; ++c) {
      const bool there = matrix_row < matrices.rows && x + c < matrices.cols;
      const uint16_t expected = there ? values[static_cast<size_t>(begin + x + c)] : uint16_t{0};
      const int at = r * kDepth + (c / 8 ^ r % 8) * 8 + c % 8;
      if (halves[static_cast<size_t>(at)] != expected) ++wrong;
    }
  }
  report(wrong == 0, name + ", column " + std::to_string(x) + ", row " + std::to_string(row) + ": " +
                         std::to_string(wrong) + " elements are wrong");
}

// One matrix, or gate and up whose first elements lie `distance` apart.
inline void check_boxes(const std::string& name, bool gated, int64_t rows, int64_t cols, int64_t stride,
                 int64_t distance) {
  Random random(7);
  std::vector<uint16_t> values(static_cast<size_t>(distance + rows * stride));
  for (uint16_t& bits : values) bits = static_cast<uint16_t>(1 + random.below(0x7000));
  const DeviceArray<uint16_t> memory(values);
  const void* gate = memory.data();
  const void* up = memory.data() + distance;
  const WeightMatrices matrices = {SE_BF16, 1, &gate, &up, gated, rows, cols, stride};
  std::vector<uint8_t> maps(kWeightMapBytes);
  if (!encode_wg_weight_maps(matrices, maps.data())) {
    report(false, name + ": the driver refuses the map");
    return;
  }
  const DeviceArray<uint8_t> maps_on_device(maps);
  for (const int32_t x : {0, 64}) {
    for (const int32_t row : {0, 64})
      check_box(name, matrices, distance, values, maps_on_device, x, row);
  }
}

inline void boxes_of_one_matrix() {
  check_boxes("one matrix", false, 200, 128, 128, 0);
  check_boxes("one matrix with ends", false, 100, 72, 80, 0);
}

inline void boxes_of_gate_and_up() {
  check_boxes("up behind gate", true, 128, 128, 128, 128 * 128);
  check_boxes("ends", true, 72, 72, 80, 72 * 80);
  check_boxes("rows in turn", true, 128, 96, 2 * 96, 96);
  check_boxes("a distance that no stride divides", true, 128, 128, 128, 128 * 128 + 8);
#if defined(SIMT_EMULATOR)
  check_boxes("far", true, 72, 72, 72, int64_t{1} << 20);
#else
  check_boxes("far", true, 72, 72, 72, int64_t{1} << 29);
#endif
}

// A map that the host has just written, read by a copy without the fence that the kernels have: whether it is
// seen at once. The kernels keep the fence whatever the answer.
inline void maps_without_fence() {
#if defined(SIMT_EMULATOR)
  note("maps without their fence: maps are ordinary memory on the emulator");
  report(true, "nothing to ask the emulator for");
#else
  constexpr int kTries = 1000;
  constexpr int kBoxRows = sparse_experts::cuda::kWgTileRows;
  std::vector<uint16_t> values(2 * kBoxRows * kDepth);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<uint16_t>(i / (kBoxRows * kDepth) + 1);
  const DeviceArray<uint16_t> memory(values);
  const DeviceArray<uint8_t> map_on_device(kWeightMapBytes);
  const DeviceArray<uint4> out(kBoxRows * kChunks);
  int stale = 0;
  for (int i = 0; i < kTries; ++i) {
    const void* matrix = memory.data() + i % 2 * kBoxRows * kDepth;
    const WeightMatrices matrices = {SE_BF16, 1, nullptr, &matrix, false, kBoxRows, kDepth, kDepth};
    std::vector<uint8_t> map(kWeightMapBytes);
    if (!encode_wg_weight_maps(matrices, map.data()))
      return report(false, "the driver refuses a map");
    must(cudaMemcpy(map_on_device.data(), map.data(), map.size(), cudaMemcpyHostToDevice), "map");
    const BoxPlace place = {false, 0, 0, kBoxRows * kRowBytes};
    run(box_kernel, 1, 128, kAlignment + kBoxRows * kRowBytes,
        static_cast<const void*>(map_on_device.data()), place, false, out.data());
    const std::vector<uint4> got = out.download();
    const uint32_t expected = static_cast<uint32_t>(i % 2 + 1) * 0x10001u;
    if (got[0].x != expected) ++stale;
  }
  note("maps without their fence: " + std::to_string(stale) + " of " + std::to_string(kTries) +
       " copies read by the map of before");
  report(true, "asked for without fence");
#endif
}

}  // namespace conformance90
