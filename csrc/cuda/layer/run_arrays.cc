#include "cuda/layer/run_arrays.h"

#include "cuda/layer/call_arrays.h"
#include "cuda/layer/place_arrays.h"
#include "cuda/runtime/device.h"
#include "cuda/runtime/tensor_rows.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {

RunArrays::RunArrays(Device& device, const SeMoeLayer& layer, const SeForwardArgs& args,
                     cudaStream_t stream)
    : device_(device),
      layer_(layer),
      args_(args),
      stream_(stream),
      plan_(plan_staging(layer, args)) {}

ForwardArrays RunArrays::on_device() const { return place_arrays(layer_, args_, plan_, block_); }

Status RunArrays::bring_in() {
  if (!is_small()) return copy_in(device_.copier(), layer_, args_, plan_, block_);
  if (args_.is_staged == 0) cuda::bring_in(layer_, args_, plan_, pinned_);
  if (plan_.input_bytes == 0) return Status::ok();
  device_.counters().copied_to_device_bytes += plan_.input_bytes;
  return device_.check(
      cudaMemcpyAsync(block_, pinned_, plan_.input_bytes, cudaMemcpyHostToDevice, stream_),
      "copy of the inputs");
}

Status RunArrays::copy_back(uint64_t offset, int64_t bytes) {
  device_.counters().copied_to_host_bytes += static_cast<uint64_t>(bytes);
  return device_.check(cudaMemcpyAsync(pinned_ + offset, block_ + offset,
                                       static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
                       "copy of the results");
}

// The output is the last of the arrays.
Status RunArrays::queue_routing() {
  if (!is_small()) return Status::ok();
  const uint64_t end = plan_.output == StagingPlan::kNone ? plan_.total_bytes : plan_.output;
  return copy_back(plan_.result_begin, static_cast<int64_t>(end - plan_.result_begin));
}

Status RunArrays::take_routing() {
  const int64_t num_tokens = args_.select.num_tokens;
  if (!is_small()) {
    SE_RETURN_IF_ERROR(copy_out_routing(device_.copier(), layer_, args_, plan_, block_));
    return copy_out_flags(device_.copier(), args_, plan_, block_, 0, num_tokens);
  }
  if (args_.is_staged != 0) return Status::ok();
  hand_out_routing(layer_, args_, plan_, pinned_);
  hand_out_flags(args_, plan_, pinned_, 0, num_tokens);
  return Status::ok();
}

Status RunArrays::queue_rows(int64_t first, int64_t count) {
  if (!is_small()) return Status::ok();
  SE_RETURN_IF_ERROR(copy_back(plan_.non_finite + static_cast<uint64_t>(first), count));
  if (plan_.output == StagingPlan::kNone) return Status::ok();
  const int64_t row = row_bytes(args_.output);
  return copy_back(plan_.output + static_cast<uint64_t>(first * row), count * row);
}

Status RunArrays::take_rows(int64_t first, int64_t count) {
  if (!is_small()) return copy_out_rows(device_.copier(), args_, plan_, block_, first, count);
  if (args_.is_staged == 0) hand_out_rows(args_, plan_, pinned_, first, count);
  return Status::ok();
}

}  // namespace sparse_experts::cuda
