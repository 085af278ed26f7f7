// What the stage ops share: the device's lock, stream and scratch, and the check that dispatch
// listed each slot once.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "core/numeric.h"
#include "core/status.h"
#include "cuda/ops/combine.h"
#include "cuda/ops/dispatch.h"
#include "cuda/runtime/device.h"
#include "cuda/stages/content_checks.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {

// One stage: the device's lock, stream and scratch, and an end at which nothing runs any more.
class Stage {
 public:
  explicit Stage(Device& device) : device_(device), lock_(device.stage_mutex) {
    faults_ = take(ContentChecks::kFaultBytes);
  }

  // Takes part of the scratch; valid once reserve() has run.
  uint64_t take(uint64_t bytes) {
    const uint64_t offset = scratch_bytes_;
    scratch_bytes_ = round_up(scratch_bytes_ + bytes, 256);
    return offset;
  }
  Status reserve() {
    SE_RETURN_IF_ERROR(device_.enter());
    return device_.stage_scratch().reserve(scratch_bytes_);
  }
  template <typename T>
  T* at(uint64_t offset) const {
    return reinterpret_cast<T*>(device_.stage_scratch().data() + offset);
  }

  ContentChecks checks() { return {device_, at<void>(faults_)}; }
  cudaStream_t stream() const { return device_.stage_stream(); }
  PinnedBuffer& pinned() { return device_.stage_pinned(); }
  const DeviceLimits& limits() const { return device_.limits().device; }
  Status launched(cudaError_t error, const char* what) {
    device_.counters().kernel_launches += 1;
    return device_.check(error, what);
  }
  Status check(cudaError_t error, const char* what) { return device_.check(error, what); }

  // Small arrays for the host to look at, in one wait.
  Status read_back(const int32_t* from, int64_t count, std::vector<int32_t>* values) {
    values->resize(static_cast<size_t>(count));
    if (count == 0) return Status::ok();
    PinnedBuffer& pinned = device_.stage_pinned();
    SE_RETURN_IF_ERROR(pinned.reserve(count * sizeof(int32_t)));
    SE_RETURN_IF_ERROR(check(cudaMemcpyAsync(pinned.data(), from, count * sizeof(int32_t),
                                             cudaMemcpyDeviceToHost, stream()),
                             "read back"));
    SE_RETURN_IF_ERROR(wait("read back"));
    const auto* read = reinterpret_cast<const int32_t*>(pinned.data());
    values->assign(read, read + count);
    return Status::ok();
  }
  Status wait(const char* what) {
    return device_.synchronize(stream(), device_.stage_event(), what);
  }
  // Waits whatever the status is: the caller's memory is free to go when a stage returns.
  Status finish(const Status& status, const char* what) {
    if (device_.is_lost()) return status;
    const Status ended = wait(what);
    return status.is_ok() ? ended : status;
  }

 private:
  Device& device_;
  std::lock_guard<std::mutex> lock_;
  uint64_t scratch_bytes_ = 0;
  uint64_t faults_ = 0;
};

inline int64_t row_stride(const SeTensor& tensor) {
  return tensor.shape[0] == 1 ? tensor.shape[1] : tensor.strides[0];
}

// Whether a slot stands twice in what dispatch listed: the distinct ones are marked, sorted as
// slots of one expert, and so counted.
struct DistinctSlots {
  uint64_t ids, offsets, slots, scratch;

  DistinctSlots(Stage* stage, int64_t num_slots)
      : ids(stage->take(num_slots * 4)),
        offsets(stage->take(8)),
        slots(stage->take(num_slots * 4)),
        scratch(stage->take(dispatch_scratch_bytes(num_slots, 1))) {}

  // Offsets and slots are checked to be in range. ids: 0 for the slots that are listed, else -1.
  Status mark(Stage* stage, const int32_t* expert_offsets, int64_t num_experts,
              const int32_t* sorted_slots, int64_t num_slots) const {
    if (num_slots == 0) return Status::ok();
    return stage->launched(launch_listed_slots(expert_offsets, num_experts, sorted_slots, num_slots,
                                               stage->at<int32_t>(ids), stage->stream()),
                           "listed_slots");
  }
  Status check(Stage* stage, int64_t num_listed, int64_t num_slots, const std::string& op) const {
    if (num_slots == 0) return Status::ok();
    DispatchKernelArgs args{};
    args.topk_ids = stage->at<int32_t>(ids);
    args.num_slots = num_slots;
    args.top_k = 1;
    args.num_experts = 1;
    args.expert_offsets = stage->at<int32_t>(offsets);
    args.sorted_slots = stage->at<int32_t>(slots);
    args.scratch = stage->at<void>(scratch);
    SE_RETURN_IF_ERROR(stage->launched(launch_dispatch(args, stage->stream()), "dispatch"));
    std::vector<int32_t> counted;
    SE_RETURN_IF_ERROR(stage->read_back(args.expert_offsets, 2, &counted));
    SE_CHECK_ARGUMENT(counted[1] == num_listed,
                      op + ": sorted_slots must hold each slot at most once");
    return Status::ok();
  }
};

}  // namespace sparse_experts::cuda
