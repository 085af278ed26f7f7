// Many matmuls of different sizes in one parallel pass: the experts of a layer, its shared expert,
// or one dense projection.
//
//   out[out_row(i)][j] = x[x_row(i)] . w[j] + bias[j]                                    (up only)
//   out[out_row(i)][j] = act(x[x_row(i)] . gate[j] + gate_bias[j], x . up[j] + up_bias[j])
//
// A task is (segment, block of columns, chunk of rows): a weight is read from memory once per
// chunk, and a chunk is long enough to be bound by arithmetic. Whoever is free takes the next task;
// the largest come first. Bits do not depend on how the work is cut (see cpu/isa/isa.h).
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {

struct RunContext;

// Rows of activations: element (row, col) at (col / kSlab * slab_stride + row * row_stride) + col %
// kSlab elements. Whole rows are the case of slab_stride = kSlab.
struct RowLayout {
  int64_t row_stride = 0;
  int64_t slab_stride = kSlab;

  static RowLayout whole(int64_t stride) { return {stride, kSlab}; }
  // As packed weights want them (cpu/isa/isa.h).
  static RowLayout slabs(int64_t num_rows) { return {kSlab, num_rows * kSlab}; }
  static int64_t slab_elements(int64_t num_rows, int64_t cols) {
    return num_rows * ((cols + kSlab - 1) / kSlab * kSlab);
  }
  int64_t offset(int64_t row, int64_t col) const {
    return col / kSlab * slab_stride + row * row_stride + col % kSlab;
  }
};

// Rows that weights are multiplied by, f32 or bf16; or codes, a CodedSlab where the layout counts kSlab
// elements.
struct ActivationRows {
  const void* data = nullptr;
  RowLayout layout;               // whole rows, unless weights are packed
  const int32_t* rows = nullptr;  // [num_rows] or NULL: row i
  bool is_coded = false;
};

struct MatmulSegment {
  int64_t num_rows = 0;
  int64_t n = 0;
  int64_t k = 0;

  ActivationRows x;       // of k elements: codes, or f32; bf16 when x_is_bf16
  ActivationRows gate_x;  // what gate is multiplied by where it is not x; data NULL: x
  bool x_is_bf16 = false;

  bool is_packed = false;      // gate and up are panels (cpu/layouts/matrix_panels.h)
  const void* gate = nullptr;  // [n, k] or NULL: up only
  const void* up = nullptr;    // [n, k]
  SeMatrixFormat gate_format = {};
  SeMatrixFormat up_format = {};
  int64_t gate_stride = 0;  // elements; not of packed weights
  int64_t up_stride = 0;
  const float* gate_bias = nullptr;
  const float* up_bias = nullptr;
  int64_t gate_bias_stride = 1;
  int64_t up_bias_stride = 1;
  const SeActivationSpec* activation = nullptr;  // NULL: none

  void* out = nullptr;  // f32, or bf16 when out_is_bf16
  RowLayout out_layout;
  const int32_t* out_rows = nullptr;  // [num_rows] or NULL: row i
  bool out_is_bf16 = false;
};

struct MatmulTask {
  int64_t segment;
  int64_t first_row;
  int64_t num_rows;
  int64_t first_col;
  int64_t num_cols;
};

// Runs every segment of context.device->segments. Returns early when cancelled.
void run_segments(const RunContext& context);

}  // namespace sparse_experts::cpu
