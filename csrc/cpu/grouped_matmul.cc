#include "cpu/grouped_matmul.h"

#include <algorithm>

#include "core/dtype.h"
#include "core/numeric.h"
#include "cpu/device.h"

namespace sparse_experts::cpu {
namespace {

// Weights of one task: a share of L2 that leaves room for the rows of x that pass by.
constexpr int64_t kTaskWeightBytes = 256 << 10;
// A multiple of every kernel's columns (2, 4, 6), so that only the last block of a matrix has a
// remainder.
constexpr int64_t kColGranule = 12;
constexpr int64_t kMaxCols = 60;
// Rows per task: enough to be bound by arithmetic, few enough to share out one hot expert.
constexpr int64_t kTaskRows = 256;
// Rows of a tile between the matmul and its epilogue; the tile lives on the stack.
constexpr int64_t kTileRows = 32;

int64_t task_columns(const MatmulSegment& segment) {
  const int64_t matrices = segment.gate != nullptr ? 2 : 1;
  const int64_t column_bytes =
      std::max<int64_t>(1, segment.k * dtype_bytes(segment.dtype) * matrices);
  const int64_t columns = kTaskWeightBytes / column_bytes / kColGranule * kColGranule;
  return std::clamp(columns, kColGranule, kMaxCols);
}

void add_bias(float* tile, int64_t num_rows, int64_t num_cols, const float* bias, int64_t stride) {
  for (int64_t i = 0; i < num_rows; ++i) {
    for (int64_t j = 0; j < num_cols; ++j) tile[i * kMaxCols + j] += bias[j * stride];
  }
}

void run_task(const IsaKernels& kernels, const MatmulSegment& segment, const MatmulTask& task) {
  alignas(64) float up[kTileRows * kMaxCols];
  alignas(64) float gate[kTileRows * kMaxCols];
  const MatmulFunction matmul =
      segment.x_is_bf16 ? kernels.matmul_bf16 : kernels.matmul[segment.dtype];
  const int64_t weight_bytes = dtype_bytes(segment.dtype);
  const int64_t x_bytes = segment.x_is_bf16 ? 2 : 4;
  const int64_t out_bytes = segment.out_is_bf16 ? 2 : 4;
  const int64_t last_row = std::min(segment.num_rows, task.first_row + kTaskRows);
  for (int64_t row = task.first_row; row < last_row; row += kTileRows) {
    MatmulTile tile;
    tile.m = std::min(kTileRows, last_row - row);
    tile.n = task.num_cols;
    tile.k = segment.k;
    tile.x_stride_bytes = segment.x_stride * x_bytes;
    tile.x = static_cast<const char*>(segment.x);
    tile.x_rows = segment.x_rows != nullptr ? segment.x_rows + row : nullptr;
    if (tile.x_rows == nullptr) tile.x += row * tile.x_stride_bytes;
    tile.out_stride = kMaxCols;
    if (segment.gate != nullptr) {
      tile.w_stride_bytes = segment.gate_stride * weight_bytes;
      tile.w = static_cast<const char*>(segment.gate) + task.first_col * tile.w_stride_bytes;
      tile.out = gate;
      matmul(tile);
      if (segment.gate_bias != nullptr)
        add_bias(gate, tile.m, tile.n,
                 segment.gate_bias + task.first_col * segment.gate_bias_stride,
                 segment.gate_bias_stride);
    }
    tile.w_stride_bytes = segment.up_stride * weight_bytes;
    tile.w = static_cast<const char*>(segment.up) + task.first_col * tile.w_stride_bytes;
    tile.out = up;
    matmul(tile);
    if (segment.up_bias != nullptr)
      add_bias(up, tile.m, tile.n, segment.up_bias + task.first_col * segment.up_bias_stride,
               segment.up_bias_stride);
    for (int64_t i = 0; i < tile.m; ++i) {
      float* values = up + i * kMaxCols;
      if (segment.activation != nullptr)
        kernels.activate(*segment.activation, gate + i * kMaxCols, values, tile.n, values);
      const int64_t out_row = segment.out_rows != nullptr ? segment.out_rows[row + i] : row + i;
      char* out = static_cast<char*>(segment.out) +
                  (out_row * segment.out_stride + task.first_col) * out_bytes;
      kernels.narrow(out, segment.out_is_bf16 ? SE_BF16 : SE_F32, values, tile.n);
    }
  }
}

}  // namespace

void run_segments(const RunContext& context) {
  std::vector<MatmulSegment>& segments = context.device->segments;
  std::vector<MatmulTask>& tasks = context.device->tasks;
  // Largest first: the tasks that end last are short ones.
  std::stable_sort(
      segments.begin(), segments.end(),
      [](const MatmulSegment& a, const MatmulSegment& b) { return a.num_rows > b.num_rows; });
  tasks.clear();
  for (size_t index = 0; index < segments.size(); ++index) {
    const MatmulSegment& segment = segments[index];
    const int64_t columns = task_columns(segment);
    for (int64_t col = 0; col < segment.n; col += columns) {
      // Chunks of rows of one block of columns follow each other: they find its weights in the
      // shared cache.
      for (int64_t row = 0; row < segment.num_rows; row += kTaskRows)
        tasks.push_back(
            {static_cast<int64_t>(index), row, col, std::min(columns, segment.n - col)});
    }
  }
  const IsaKernels& kernels = *context.kernels;
  context.parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t number) {
    const MatmulTask& task = tasks[number];
    run_task(kernels, segments[task.segment], task);
  });
}

}  // namespace sparse_experts::cpu
