// Grouped matmul in f32: every expert's tokens times its matrices, in one launch.
// Blocks take every gridDim-th tile.
//
//   1. a tile's number gives its group, expert, columns and tokens (expert_matmul_tiles.cuh)
//   2. the block writes down where the tile's rows lie: gate and up rows, and token rows by index
//   3. multiply_tile (f32_expert_matmul_tile.cuh), with as many tokens per thread as the tile needs
//   4. the parts of a split K in rising order, bias, activation and slot weight, one output per
//      thread at a time, along the rows
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/activation.cuh"
#include "cuda/kernels/any/expert_matmul_tiles.cuh"
#include "cuda/kernels/any/f32_expert_matmul_tile.cuh"
#include "cuda/ops/expert_matmul.h"

namespace sparse_experts::cuda {

// Outputs of a whole tile.
template <typename Tile>
__device__ __forceinline__ int32_t outputs_of(const MatmulGroup& group) {
  return group.gate != nullptr ? Tile::kRows / 2 : Tile::kRows;
}

__device__ __forceinline__ const float* matrix_of(const void* const* table, int32_t expert) {
  return table == nullptr ? nullptr : static_cast<const float*>(table[expert]);
}

template <typename Tile>
__device__ __forceinline__ F32Operands operands_of(const MatmulGroup& group, const TilePlace& place,
                                                   uint32_t num_columns) {
  F32Operands operands;
  operands.depth = group.cols;
  operands.row_mask = num_columns - 1;
  const int64_t left = group.rows - place.first_column;
  operands.valid_rows = left < num_columns ? static_cast<uint32_t>(left) : num_columns;
  operands.valid_tokens = static_cast<uint32_t>(place.num_tokens);
  const uintptr_t weights = reinterpret_cast<uintptr_t>(matrix_of(group.gate, place.expert)) |
                            reinterpret_cast<uintptr_t>(matrix_of(group.up, place.expert));
  operands.weights_aligned = weights % 16 == 0 && group.weight_stride % 4 == 0;
  operands.tokens_aligned =
      reinterpret_cast<uintptr_t>(group.x) % 16 == 0 && group.x_stride % 4 == 0;
  return operands;
}

// Step 2: a tile's rows, and what later steps need of its tokens.
template <typename Tile>
__device__ __forceinline__ void write_sources(const MatmulGroup& group, const TilePlace& place,
                                              uint32_t num_columns, const float** sources,
                                              int32_t* out_rows, float* scales) {
  const float* gate = matrix_of(group.gate, place.expert);
  const float* up = matrix_of(group.up, place.expert);
  for (uint32_t row = threadIdx.x; row < Tile::kRows; row += Tile::kThreads) {
    const bool is_gate = gate != nullptr && row < num_columns;
    const int64_t column = place.first_column + (row & (num_columns - 1));
    sources[row] = (is_gate ? gate : up) +
                   (column < group.rows ? column : place.first_column) * group.weight_stride;
  }
  for (int32_t token = static_cast<int32_t>(threadIdx.x); token < place.num_tokens;
       token += Tile::kThreads) {
    const int64_t entry = place.first_entry + token;
    const int64_t slot = group.slots != nullptr ? group.slots[entry] : entry;
    const int64_t row = group.x_index == RowIndex::kSorted  ? entry
                        : group.x_index == RowIndex::kToken ? slot / group.top_k
                                                            : slot;
    sources[Tile::kRows + token] = static_cast<const float*>(group.x) + row * group.x_stride;
    out_rows[token] = static_cast<int32_t>(group.out_index == RowIndex::kSorted ? entry : slot);
    scales[token] = group.slot_weights != nullptr ? group.slot_weights[slot] : 1.0f;
  }
}

// The whole sum of one output, from that of the first part of K.
template <typename Tile>
__device__ __forceinline__ float sum_of_parts(const float* first) {
  float sum = *first;
#pragma unroll
  for (int part = 1; part < Tile::kSplit; ++part)
    sum += first[part * Tile::kTokens * Tile::kOutStride];
  return sum;
}

// Step 4.
template <typename Tile>
__device__ __forceinline__ void write_outputs(const ExpertMatmulKernelArgs& args,
                                              const MatmulGroup& group, const TilePlace& place,
                                              uint32_t num_columns, const float* tile,
                                              const int32_t* out_rows, const float* scales) {
  const bool gated = group.gate != nullptr;
  const float* gate_bias =
      gated && group.gate_bias != nullptr ? group.gate_bias[place.expert] : nullptr;
  const float* up_bias = group.up_bias != nullptr ? group.up_bias[place.expert] : nullptr;
  const bool scaled = group.slot_weights != nullptr;
  const uint32_t count = static_cast<uint32_t>(place.num_tokens) * num_columns;
  for (uint32_t i = threadIdx.x; i < count; i += Tile::kThreads) {
    const uint32_t local = i & (num_columns - 1);
    const uint32_t token = i / num_columns;
    const int64_t column = place.first_column + local;
    if (column >= group.rows) continue;
    const float* sums = tile + token * Tile::kOutStride + local;
    float gate[1] = {gated ? sum_of_parts<Tile>(sums) : 0.0f};
    float up[1] = {sum_of_parts<Tile>(gated ? sums + num_columns : sums)};
    if (gate_bias != nullptr) gate[0] += gate_bias[column * group.bias_stride];
    if (up_bias != nullptr) up[0] += up_bias[column * group.bias_stride];
    if (args.apply_activation) {
      if (gated) {
        activate_elements<true>(args.activation, gate, up);
      } else {
        activate_elements<false>(args.activation, gate, up);
      }
    }
    float value = up[0];
    if (scaled) value *= scales[token];
    static_cast<float*>(group.out)[out_rows[token] * group.out_stride + column] = value;
  }
}

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    f32_expert_matmul_kernel(ExpertMatmulKernelArgs args) {
  await_launches();
  SE_DYNAMIC_SHARED(dynamic);
  SE_SHARED(const float*, sources, Tile::kRows + Tile::kTokens);
  SE_SHARED(int32_t, out_rows, Tile::kTokens);
  SE_SHARED(float, scales, Tile::kTokens);
  SE_SHARED(TilePlace, place, 1);
  SE_SHARED(F32Operands, operands, 1);
  float* shared = reinterpret_cast<float*>(dynamic);

  for (uint32_t number = blockIdx.x;; number += gridDim.x) {
    uint32_t first = 0;  // tile of the group
    uint32_t end = group_tiles(args.groups[0], outputs_of<Tile>(args.groups[0]), Tile::kTokens);
    const bool second = number >= end;
    if (second) {
      first = end;
      if (args.num_groups > 1)
        end += group_tiles(args.groups[1], outputs_of<Tile>(args.groups[1]), Tile::kTokens);
      if (number >= end) break;
    }
    const MatmulGroup& group = args.groups[second ? 1 : 0];
    const uint32_t num_columns = outputs_of<Tile>(group);
    __syncthreads();  // the last tile has been read
    if (threadIdx.x == 0) {
      place[0] = place_of_tile(group, number - first, num_columns, Tile::kTokens);
      operands[0] = operands_of<Tile>(group, place[0], num_columns);
    }
    __syncthreads();
    write_sources<Tile>(group, place[0], num_columns, sources, out_rows, scales);
    __syncthreads();
    // The least number of tokens per thread that holds them all: a short tile costs less.
    const int num_tokens = place[0].num_tokens;
    if (num_tokens <= Tile::kTokenThreads) {
      multiply_tile<Tile, 1>(operands[0], sources, shared);
    } else if (num_tokens <= 2 * Tile::kTokenThreads) {
      multiply_tile<Tile, 2>(operands[0], sources, shared);
    } else if (num_tokens <= 4 * Tile::kTokenThreads || Tile::kTokensPerThread == 4) {
      multiply_tile<Tile, 4>(operands[0], sources, shared);
    } else {
      multiply_tile<Tile, Tile::kTokensPerThread>(operands[0], sources, shared);
    }
    write_outputs<Tile>(args, group, place[0], num_columns, shared, out_rows, scales);
  }
}

}  // namespace sparse_experts::cuda
