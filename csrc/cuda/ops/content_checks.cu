// Host side of the checks of contents.
#include <algorithm>

#include "cuda/common/launch.cuh"
#include "cuda/kernels/any/content_checks.cuh"
#include "cuda/ops/content_checks.h"

namespace sparse_experts::cuda {
namespace {

// A few elements per thread at least, and no more blocks than a large GPU holds at a time.
dim3 check_grid(int64_t count) {
  constexpr int64_t kPerBlock = 4 * kCheckThreads;
  constexpr int64_t kMaxBlocks = 1024;
  return dim3(static_cast<unsigned>(std::min((count + kPerBlock - 1) / kPerBlock, kMaxBlocks)));
}

}  // namespace

cudaError_t launch_check_range(const int32_t* values, int64_t count, int32_t least, int32_t most,
                               int64_t* fault, LaunchStream stream) {
  if (count <= 0) return cudaSuccess;
  return launch(check_range_kernel<int32_t>, check_grid(count), dim3(kCheckThreads), 0, stream,
                values, count, least, most, fault);
}

cudaError_t launch_check_row_top_k(const uint8_t* values, int64_t count, int32_t most,
                                   int64_t* fault, LaunchStream stream) {
  if (count <= 0) return cudaSuccess;
  return launch(check_range_kernel<uint8_t>, check_grid(count), dim3(kCheckThreads), 0, stream,
                values, count, 0, most, fault);
}

cudaError_t launch_check_offsets(const int32_t* offsets, int64_t num_experts, int64_t num_slots,
                                 int64_t* fault, LaunchStream stream) {
  return launch(check_offsets_kernel, check_grid(num_experts + 1), dim3(kCheckThreads), 0, stream,
                offsets, num_experts, num_slots, fault);
}

cudaError_t launch_check_slots(const int32_t* slots, const int32_t* num_listed, int64_t num_slots,
                               int64_t* fault, LaunchStream stream) {
  if (num_slots <= 0) return cudaSuccess;
  return launch(check_slots_kernel, check_grid(num_slots), dim3(kCheckThreads), 0, stream, slots,
                num_listed, num_slots, fault);
}

}  // namespace sparse_experts::cuda
