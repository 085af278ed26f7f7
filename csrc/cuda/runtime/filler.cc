#include "cuda/runtime/filler.h"

#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {

Filler::~Filler() {
  if (stream_ == nullptr || !device_.enter().is_ok()) return;
  if (filled_ != nullptr) static_cast<void>(cudaEventDestroy(filled_));
  static_cast<void>(cudaStreamDestroy(stream_));
}

Status Filler::open() {
  if (stream_ == nullptr)
    SE_RETURN_IF_ERROR(device_.check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                                     "cudaStreamCreateWithFlags"));
  if (filled_ != nullptr) return Status::ok();
  return device_.check(
      cudaEventCreateWithFlags(&filled_, cudaEventBlockingSync | cudaEventDisableTiming),
      "cudaEventCreateWithFlags");
}

Status Filler::begin(void* to, const void* from, uint64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  SE_RETURN_IF_ERROR(open());
  SE_RETURN_IF_ERROR(device_.check(
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copy of an expert"));
  has_copies_ = true;
  device_.counters().copied_to_device_bytes += bytes;
  return device_.check(cudaEventRecord(filled_, stream_), "copy of an expert");
}

Status Filler::precede(cudaStream_t stream, bool* has_waited) {
  std::lock_guard<std::mutex> lock(mutex_);
  *has_waited = has_copies_;
  return has_copies_ ? device_.check(cudaStreamWaitEvent(stream, filled_, 0), "copy of an expert")
                     : Status::ok();
}

Status Filler::wait() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!has_copies_) return Status::ok();
  SE_RETURN_IF_ERROR(device_.check(cudaStreamSynchronize(stream_), "copy of an expert"));
  has_copies_ = false;
  return Status::ok();
}

}  // namespace sparse_experts::cuda
