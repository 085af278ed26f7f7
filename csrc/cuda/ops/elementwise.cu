// Host side of conversions, scaled gathers and pointer tables: instantiation and grid.
#include <algorithm>

#include "cuda/common/launch.cuh"
#include "cuda/common/vec.cuh"
#include "cuda/kernels/any/elementwise.cuh"
#include "cuda/ops/elementwise.h"

namespace sparse_experts::cuda {
namespace {

constexpr int64_t kWide = 8;  // elements per thread where everything is aligned
constexpr int64_t kMaxRowBlocks = 65535;
constexpr int64_t kMaxBlocks = 1 << 16;

struct Extent {
  dim3 grid;
  dim3 block;
};

// Short rows take small blocks.
Extent extent_of(int64_t rows, int64_t cols, int64_t per_thread) {
  const int64_t threads = (cols + per_thread - 1) / per_thread;
  const int64_t block = std::min<int64_t>((threads + 31) / 32 * 32, kElementwiseThreads);
  const int64_t row_blocks = std::min(rows, kMaxRowBlocks);
  const int64_t column_blocks = std::min((threads + block - 1) / block, kMaxBlocks);
  return {dim3(static_cast<unsigned>(column_blocks), static_cast<unsigned>(row_blocks)),
          dim3(static_cast<unsigned>(block))};
}

template <typename From, typename To>
cudaError_t convert(const ConvertArgs& given, LaunchStream stream) {
  ConvertArgs args = given;
  if (args.from_stride == args.cols && args.to_stride == args.cols) {  // one long row
    args.cols *= args.rows;
    args.rows = 1;
  }
  // A single row has no stride to be aligned.
  const int64_t from_stride = args.rows == 1 ? 0 : args.from_stride;
  const int64_t to_stride = args.rows == 1 ? 0 : args.to_stride;
  const bool wide = args.cols % kWide == 0 &&
                    is_vector_aligned(args.from, from_stride, sizeof(From), kWide) &&
                    is_vector_aligned(args.to, to_stride, sizeof(To), kWide);
  const Extent extent = extent_of(args.rows, args.cols, wide ? kWide : 1);
  return launch(wide ? convert_kernel<From, To, kWide> : convert_kernel<From, To, 1>, extent.grid,
                extent.block, 0, stream, static_cast<const From*>(args.from), args.from_stride,
                static_cast<To*>(args.to), args.to_stride, args.rows, args.cols);
}

template <typename From>
cudaError_t convert_from(const ConvertArgs& args, LaunchStream stream) {
  switch (args.to_dtype) {
    case SE_F32:
      return convert<From, float>(args, stream);
    case SE_F16:
      return convert<From, F16>(args, stream);
    case SE_BF16:
      return convert<From, Bf16>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <typename T>
cudaError_t scale_rows(const ScaleRowsArgs& args, LaunchStream stream) {
  const bool wide = args.cols % kWide == 0 &&
                    is_vector_aligned(args.from, args.from_stride, sizeof(T), kWide) &&
                    is_vector_aligned(args.to, args.cols, sizeof(T), kWide);
  const Extent extent = extent_of(args.num_slots, args.cols, wide ? kWide : 1);
  return launch(wide ? scale_rows_kernel<T, kWide> : scale_rows_kernel<T, 1>, extent.grid,
                extent.block, 0, stream, args);
}

}  // namespace

cudaError_t launch_convert(const ConvertArgs& args, LaunchStream stream) {
  if (args.rows <= 0 || args.cols <= 0) return cudaSuccess;
  switch (args.from_dtype) {
    case SE_F32:
      return convert_from<float>(args, stream);
    case SE_F16:
      return convert_from<F16>(args, stream);
    case SE_BF16:
      return convert_from<Bf16>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t launch_scale_rows(const ScaleRowsArgs& args, LaunchStream stream) {
  if (args.num_slots <= 0 || args.cols <= 0) return cudaSuccess;
  switch (args.dtype) {
    case SE_F32:
      return scale_rows<float>(args, stream);
    case SE_F16:
      return scale_rows<F16>(args, stream);
    case SE_BF16:
      return scale_rows<Bf16>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t launch_fill_table(const void* base, int64_t stride_bytes, int64_t count,
                              const void** table, LaunchStream stream) {
  if (count <= 0) return cudaSuccess;
  const Extent extent = extent_of(1, count, 1);
  return launch(fill_table_kernel, extent.grid, extent.block, 0, stream, base, stride_bytes, count,
                table);
}

}  // namespace sparse_experts::cuda
