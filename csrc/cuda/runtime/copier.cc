#include "cuda/runtime/copier.h"

#include <algorithm>
#include <cstring>

#include "cuda/runtime/device.h"
#include "cuda/runtime/tensor_rows.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// Enough that a copy's fixed cost (about 10 us) is small beside its transfer.
constexpr uint64_t kHalfBytes = 4 << 20;
// Up to here the runtime's own staging of pageable memory is as fast.
constexpr uint64_t kDirectBytes = 64 << 10;
}  // namespace

Copier::Copier(Device& device) : device_(device), pinned_(device) {}

Copier::~Copier() {
  if (!device_.enter().is_ok()) return;
  for (cudaEvent_t event : events_)
    if (event != nullptr) static_cast<void>(cudaEventDestroy(event));
  if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
}

Status Copier::open() {
  SE_RETURN_IF_ERROR(device_.check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                                   "cudaStreamCreateWithFlags"));
  for (cudaEvent_t& event : events_)
    SE_RETURN_IF_ERROR(device_.check(
        cudaEventCreateWithFlags(&event, cudaEventBlockingSync | cudaEventDisableTiming),
        "cudaEventCreateWithFlags"));
  return Status::ok();
}

Status Copier::to_device(void* to, const void* from, uint64_t bytes) {
  return copy(to, from, bytes, cudaMemcpyHostToDevice);
}

Status Copier::to_host(void* to, const void* from, uint64_t bytes) {
  return copy(to, from, bytes, cudaMemcpyDeviceToHost);
}

Status Copier::rows_to_device(void* to, const SeTensor& from) {
  const int64_t bytes = row_bytes(from);
  if (is_dense(from)) return to_device(to, from.data, from.shape[0] * bytes);
  for (int64_t t = 0; t < from.shape[0]; ++t)
    SE_RETURN_IF_ERROR(to_device(static_cast<char*>(to) + t * bytes, row_of(from, t), bytes));
  return Status::ok();
}

Status Copier::rows_to_host(const SeTensor& to, const void* from) {
  const int64_t bytes = row_bytes(to);
  if (is_dense(to)) return to_host(to.data, from, to.shape[0] * bytes);
  for (int64_t t = 0; t < to.shape[0]; ++t)
    SE_RETURN_IF_ERROR(to_host(row_of(to, t), static_cast<const char*>(from) + t * bytes, bytes));
  return Status::ok();
}

Status Copier::copy(void* to, const void* from, uint64_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return Status::ok();
  std::lock_guard<std::mutex> lock(mutex_);
  SE_RETURN_IF_ERROR(device_.enter());
  // Without pinned memory the runtime stages by itself: slower, and right.
  const bool direct = bytes <= kDirectBytes || !pinned_.reserve(2 * kHalfBytes).is_ok();
  SE_RETURN_IF_ERROR(device_.enter());
  Status status;
  if (direct) {
    status = device_.check(cudaMemcpyAsync(to, from, bytes, kind, stream_), "copy");
  } else {
    status = copy_chunks(static_cast<char*>(to), static_cast<const char*>(from), bytes, kind);
  }
  SE_RETURN_IF_ERROR(finish(status));
  (kind == cudaMemcpyHostToDevice ? device_.counters().copied_to_device_bytes
                                  : device_.counters().copied_to_host_bytes) += bytes;
  return Status::ok();
}

Status Copier::queue_chunk(int half, char* to, const char* from, uint64_t bytes,
                           cudaMemcpyKind kind) {
  SE_RETURN_IF_ERROR(device_.check(cudaMemcpyAsync(to, from, bytes, kind, stream_), "copy"));
  return device_.check(cudaEventRecord(events_[half], stream_), "copy");
}

// Towards the device: wait for a half, fill it, send it. Towards the host: send the next chunk into
// the other half, then wait for this one and empty it.
Status Copier::copy_chunks(char* to, const char* from, uint64_t bytes, cudaMemcpyKind kind) {
  const uint64_t num_chunks = (bytes + kHalfBytes - 1) / kHalfBytes;
  const auto begin_of = [&](uint64_t chunk) { return chunk * kHalfBytes; };
  const auto size_of = [&](uint64_t chunk) {
    return std::min(kHalfBytes, bytes - begin_of(chunk));
  };
  const auto half_of = [&](uint64_t chunk) { return pinned_.data() + chunk % 2 * kHalfBytes; };
  if (kind == cudaMemcpyHostToDevice) {
    for (uint64_t chunk = 0; chunk < num_chunks; ++chunk) {
      if (chunk >= 2)
        SE_RETURN_IF_ERROR(device_.check(cudaEventSynchronize(events_[chunk % 2]), "copy"));
      std::memcpy(half_of(chunk), from + begin_of(chunk), size_of(chunk));
      SE_RETURN_IF_ERROR(queue_chunk(static_cast<int>(chunk % 2), to + begin_of(chunk),
                                     half_of(chunk), size_of(chunk), kind));
    }
    return Status::ok();
  }
  for (uint64_t chunk = 0; chunk <= num_chunks; ++chunk) {
    if (chunk < num_chunks)
      SE_RETURN_IF_ERROR(queue_chunk(static_cast<int>(chunk % 2), half_of(chunk),
                                     from + begin_of(chunk), size_of(chunk), kind));
    if (chunk == 0) continue;
    const uint64_t last = chunk - 1;
    SE_RETURN_IF_ERROR(device_.check(cudaEventSynchronize(events_[last % 2]), "copy"));
    std::memcpy(to + begin_of(last), half_of(last), size_of(last));
  }
  return Status::ok();
}

// Nothing is on its way when this returns, whatever went wrong before.
Status Copier::finish(const Status& status) {
  if (device_.is_lost()) return status;
  const Status ended = device_.synchronize(stream_, events_[0], "copy");
  return status.is_ok() ? ended : status;
}

}  // namespace sparse_experts::cuda
