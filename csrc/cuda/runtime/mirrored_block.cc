#include "cuda/runtime/mirrored_block.h"

#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {

MirroredBlock::~MirroredBlock() {
  if (copied_ != nullptr && device_.enter().is_ok()) static_cast<void>(cudaEventDestroy(copied_));
}

Status MirroredBlock::open(uint64_t bytes) {
  if (copied_ == nullptr)
    SE_RETURN_IF_ERROR(device_.check(
        cudaEventCreateWithFlags(&copied_, cudaEventBlockingSync | cudaEventDisableTiming),
        "cudaEventCreateWithFlags"));
  SE_RETURN_IF_ERROR(copy_.reserve(bytes));
  return host_.reserve(bytes);
}

Status MirroredBlock::edit(char** host) {
  *host = host_.data();
  if (!is_copying_) return Status::ok();
  SE_RETURN_IF_ERROR(device_.check(cudaEventSynchronize(copied_), "copy of a table"));
  is_copying_ = false;
  return Status::ok();
}

Status MirroredBlock::upload(uint64_t first, uint64_t bytes, cudaStream_t stream) {
  SE_RETURN_IF_ERROR(device_.check(cudaMemcpyAsync(copy_.data() + first, host_.data() + first,
                                                   bytes, cudaMemcpyHostToDevice, stream),
                                   "copy of a table"));
  is_copying_ = true;
  device_.counters().copied_to_device_bytes += bytes;
  return device_.check(cudaEventRecord(copied_, stream), "copy of a table");
}

}  // namespace sparse_experts::cuda
