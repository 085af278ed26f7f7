#include "cpu/ops/expert_matmul.h"

#include <algorithm>

#include "core/matrix_format.h"
#include "core/numeric.h"
#include "cpu/device.h"
#include "cpu/isa/choose_isa.h"
#include "cpu/layouts/matrix_panels.h"

namespace sparse_experts::cpu {
namespace {

// Columns of a task: whole panels, or a multiple of every other kernel's columns (2, 4, 6), so that
// only the last block of a matrix has a remainder. A tile of them lies on the stack. One or two rows
// have tiles that are wider and as large: the longer a matrix is read, the rarer a stream begins.
constexpr int64_t kMaxCols = 64;
constexpr int64_t kMaxColsOfFewRows = 512;
constexpr int64_t kFewRows = 2;
static_assert(kFewRows * kMaxColsOfFewRows <= kMaxTaskRows * kMaxCols);
constexpr int64_t most_columns(int64_t num_rows) {
  return num_rows <= kFewRows ? kMaxColsOfFewRows : kMaxCols;
}
constexpr int64_t kColGranule = 12;
// A task per thread and wave would end at the pace of the slowest: this many, if they are not too
// small to be worth handing out.
constexpr int64_t kTasksPerThread = 12;
constexpr int64_t kLeastTaskBytes = 96 << 10;
constexpr int64_t kMostTaskBytes = 1 << 20;
// Rows up to which reading weights of 16 bits and more takes longer than multiplying by them: the
// unit of a task's size. Smaller weights are read sooner, and take longer to decode.
constexpr int64_t kFreeRows = 8;
constexpr int64_t kLeastFreeRows = 4;

int64_t row_bytes(const MatmulSegment& segment, const SeMatrixFormat& format, int64_t width) {
  if (!segment.is_packed) return code_row_bytes(format.code, segment.k);
  return MatrixPanels(width, segment.n, segment.k, format).panel_bytes / width;
}

// What a column takes for some rows, in bytes of weights that could be read meanwhile.
int64_t column_cost(const MatmulSegment& segment, int64_t num_rows, int64_t width) {
  int64_t bytes = row_bytes(segment, segment.up_format, width);
  const int64_t bytes_of_16_bits = 2 * segment.k;
  const int64_t free_rows =
      std::clamp(kFreeRows * bytes / bytes_of_16_bits, kLeastFreeRows, kFreeRows);
  if (segment.gate != nullptr) bytes += row_bytes(segment, segment.gate_format, width);
  return bytes * std::max<int64_t>(1, num_rows / free_rows);
}

int64_t task_columns(const MatmulSegment& segment, int64_t task_bytes, int64_t panel_width) {
  const int64_t granule = segment.is_packed ? panel_width : kColGranule;
  const int64_t rows = std::min(segment.num_rows, kMaxTaskRows);
  const int64_t cost = column_cost(segment, rows, panel_width);
  const int64_t columns = task_bytes / std::max<int64_t>(1, cost) / granule * granule;
  const int64_t least = rows <= kFewRows ? kMaxCols / granule * granule : granule;
  return std::clamp(columns, least, most_columns(rows) / granule * granule);
}

void add_bias(float* tile, const MatmulTask& task, const float* bias, int64_t stride) {
  for (int64_t i = 0; i < task.num_rows; ++i) {
    float* row = tile + i * most_columns(task.num_rows);
    for (int64_t j = 0; j < task.num_cols; ++j) row[j] += bias[(task.first_col + j) * stride];
  }
}

// A task's product, before bias and activation: [num_rows, num_cols] f32, most_columns apart.
class TaskMatmul {
 public:
  TaskMatmul(const IsaKernels& kernels, const MatmulSegment& segment, const MatmulTask& task)
      : kernels_(kernels), segment_(segment), task_(task) {}

  // The rows that the next runs multiply by.
  void set_x(const ActivationRows& x) {
    x_ = x;
    if (!segment_.is_packed) return;
    const int64_t row_bytes = x_bytes(x.layout.row_stride);
    for (int64_t i = 0; i < task_.num_rows; ++i) {
      const int64_t row = task_.first_row + i;
      const int64_t x_row = x.rows != nullptr ? x.rows[row] : row;
      rows_[i] = static_cast<const char*>(x.data) + x_row * row_bytes;
    }
  }

  void run(const void* weights, const SeMatrixFormat& format, int64_t stride, float* out) const {
    if (segment_.is_packed) {
      run_panels(weights, format, out);
    } else {
      run_rows(weights, format.code, stride, out);
    }
  }

 private:
  const MatmulKernel& kernel(int32_t code) const {
    const int32_t float_dtype = segment_.x_is_bf16 ? SE_BF16 : SE_F32;
    return *find_matmul(kernels_, x_.is_coded ? kCodedRows : float_dtype, code);
  }

  // Bytes of elements as a layout counts them.
  int64_t x_bytes(int64_t elements) const {
    if (x_.is_coded) return elements / kSlab * static_cast<int64_t>(sizeof(CodedSlab));
    return elements * (segment_.x_is_bf16 ? 2 : 4);
  }

  void run_panels(const void* weights, const SeMatrixFormat& format, float* out) const {
    const MatrixPanels layout(kernels_.panel_width, segment_.n, segment_.k, format);
    PanelTile tile;
    tile.x_rows = rows_;
    tile.x_slab_bytes = x_bytes(x_.layout.slab_stride);
    tile.w =
        static_cast<const char*>(weights) + task_.first_col / layout.width * layout.panel_bytes;
    tile.panel_bytes = layout.panel_bytes;
    tile.num_panels = (task_.num_cols + layout.width - 1) / layout.width;
    tile.m = task_.num_rows;
    tile.k = segment_.k;
    tile.out = out;
    tile.out_stride = most_columns(task_.num_rows);
    tile.quant = layout.is_quantised ? &layout.quant : nullptr;
    kernel(format.code).panels(tile);
  }

  void run_rows(const void* weights, int32_t code, int64_t stride, float* out) const {
    MatmulTile tile;
    tile.m = task_.num_rows;
    tile.n = task_.num_cols;
    tile.k = segment_.k;
    tile.x_stride_bytes = x_bytes(x_.layout.row_stride);
    tile.x = static_cast<const char*>(x_.data);
    tile.x_rows = x_.rows != nullptr ? x_.rows + task_.first_row : nullptr;
    if (tile.x_rows == nullptr) tile.x += task_.first_row * tile.x_stride_bytes;
    tile.w_stride_bytes = code_row_bytes(code, stride);
    tile.w = static_cast<const char*>(weights) + task_.first_col * tile.w_stride_bytes;
    tile.out = out;
    tile.out_stride = most_columns(task_.num_rows);
    kernel(code).rows(tile);
  }

  const IsaKernels& kernels_;
  const MatmulSegment& segment_;
  const MatmulTask& task_;
  ActivationRows x_;
  const char* rows_[kMaxTaskRows];
};

void run_task(const IsaKernels& kernels, const MatmulSegment& segment, const MatmulTask& task) {
  alignas(64) float up[kMaxTaskRows * kMaxCols];
  alignas(64) float gate[kMaxTaskRows * kMaxCols];
  TaskMatmul matmul(kernels, segment, task);
  const bool has_gate_x = segment.gate_x.data != nullptr;
  matmul.set_x(has_gate_x ? segment.gate_x : segment.x);
  if (segment.gate != nullptr) {
    matmul.run(segment.gate, segment.gate_format, segment.gate_stride, gate);
    if (segment.gate_bias != nullptr)
      add_bias(gate, task, segment.gate_bias, segment.gate_bias_stride);
  }
  if (has_gate_x) matmul.set_x(segment.x);
  matmul.run(segment.up, segment.up_format, segment.up_stride, up);
  if (segment.up_bias != nullptr) add_bias(up, task, segment.up_bias, segment.up_bias_stride);
  const int64_t out_bytes = segment.out_is_bf16 ? 2 : 4;
  const int32_t out_dtype = segment.out_is_bf16 ? SE_BF16 : SE_F32;
  const int64_t stride = most_columns(task.num_rows);
  for (int64_t i = 0; i < task.num_rows; ++i) {
    float* values = up + i * stride;
    if (segment.activation != nullptr)
      kernels.activate(*segment.activation, gate + i * stride, values, task.num_cols, values);
    const int64_t row = task.first_row + i;
    const int64_t out_row = segment.out_rows != nullptr ? segment.out_rows[row] : row;
    for (int64_t j = 0; j < task.num_cols;) {
      const int64_t col = task.first_col + j;
      const int64_t n = std::min(task.num_cols - j, kSlab - col % kSlab);
      kernels.narrow(
          static_cast<char*>(segment.out) + segment.out_layout.offset(out_row, col) * out_bytes,
          out_dtype, values + j, n);
      j += n;
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
  int64_t cost = 0;
  for (const MatmulSegment& segment : segments)
    cost += segment.n * column_cost(segment, segment.num_rows, context.kernels->panel_width);
  const int64_t task_bytes =
      std::clamp(cost / (kTasksPerThread * context.num_threads), kLeastTaskBytes, kMostTaskBytes);
  tasks.clear();
  for (size_t index = 0; index < segments.size(); ++index) {
    const MatmulSegment& segment = segments[index];
    const int64_t columns = task_columns(segment, task_bytes, context.kernels->panel_width);
    for (int64_t col = 0; col < segment.n; col += columns) {
      // Chunks of rows of one block of columns follow each other: they find its weights in the
      // shared cache.
      for (int64_t row = 0; row < segment.num_rows; row += kMaxTaskRows)
        tasks.push_back({static_cast<int64_t>(index), row,
                         std::min(kMaxTaskRows, segment.num_rows - row), col,
                         std::min(columns, segment.n - col)});
    }
  }
  const IsaKernels& kernels = *context.kernels;
  context.parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t number) {
    const MatmulTask& task = tasks[number];
    run_task(kernels, segments[task.segment], task);
  });
}

}  // namespace sparse_experts::cpu
