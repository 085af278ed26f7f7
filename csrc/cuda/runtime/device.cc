#include "cuda/runtime/device.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <thread>
#include <vector>

#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/launch_stream.h"
#include "cuda/runtime/errors.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

bool is_switched_on(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr || std::string(text) != "0";
}

// The devices that are open, for open_state.
struct Registry {
  std::mutex mutex;
  std::vector<Device*> devices;
};
Registry& registry() {
  static auto* all = new Registry();  // outlives every static destructor
  return *all;
}

}  // namespace

Status read_wave_bytes(uint64_t* wave_bytes) {
  const char* text = std::getenv("SPARSE_EXPERTS_CUDA_WAVE_BYTES");
  if (text == nullptr || *text == '\0') return Status::ok();
  char* end = nullptr;
  errno = 0;
  const unsigned long long value = std::strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0' || text[0] == '-' || value < kLeastWaveBytes)
    return {SE_DEVICE_UNAVAILABLE, std::string("SPARSE_EXPERTS_CUDA_WAVE_BYTES=") + text +
                                       ": expected a whole number of at least " +
                                       std::to_string(kLeastWaveBytes)};
  *wave_bytes = value;
  return Status::ok();
}

OpenState open_state(int index) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  OpenState state;
  for (Device* device : all.devices) {
    if (device->index() != index) continue;
    state.is_open = true;
    state.info = device->info();
    if (state.lost_cause.empty()) state.lost_cause = device->lost_cause();
  }
  return state;
}

Device::Device(int index)
    : index_(index),
      stage_scratch_(*this),
      stage_pinned_(*this),
      call_staging_(*this),
      copier_(*this),
      filler_(*this),
      bulk_(*this) {}

Device::~Device() {
  {
    Registry& all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    all.devices.erase(std::remove(all.devices.begin(), all.devices.end(), this), all.devices.end());
  }
  if (!enter().is_ok()) return;
  if (stage_event_ != nullptr) static_cast<void>(cudaEventDestroy(stage_event_));
  if (stage_stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stage_stream_));
}

Status Device::open(const SeDeviceInfo& info) {
  info_ = info;
  SE_RETURN_IF_ERROR(read_wave_bytes(&limits_.wave_bytes));
  graphs_enabled_ = is_switched_on("SPARSE_EXPERTS_CUDA_GRAPHS");
  warp_groups_ = is_switched_on("SPARSE_EXPERTS_CUDA_WARP_GROUPS");
  SE_RETURN_IF_ERROR(enter());
  const auto attribute = [&](cudaDeviceAttr which, int64_t* value) {
    int number = 0;
    Status status = check(cudaDeviceGetAttribute(&number, which, index_), "cudaDeviceGetAttribute");
    *value = number;
    return status;
  };
  int64_t major = 0, minor = 0, num_multiprocessors = 0, l2_bytes = 0;
  DeviceLimits& limits = limits_.device;
  SE_RETURN_IF_ERROR(attribute(cudaDevAttrComputeCapabilityMajor, &major));
  SE_RETURN_IF_ERROR(attribute(cudaDevAttrComputeCapabilityMinor, &minor));
  SE_RETURN_IF_ERROR(attribute(cudaDevAttrMultiProcessorCount, &num_multiprocessors));
  SE_RETURN_IF_ERROR(
      attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, &limits.shared_bytes_per_block));
  SE_RETURN_IF_ERROR(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor,
                               &limits.shared_bytes_per_multiprocessor));
  SE_RETURN_IF_ERROR(attribute(cudaDevAttrL2CacheSize, &l2_bytes));
  limits.compute_capability = static_cast<int32_t>(10 * major + minor);
  limits.num_multiprocessors = static_cast<int32_t>(num_multiprocessors);
  limits.l2_bytes = l2_bytes;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  SE_RETURN_IF_ERROR(check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo"));
  total_bytes_ = total_bytes;
  SE_RETURN_IF_ERROR(check(cudaStreamCreateWithFlags(&stage_stream_, cudaStreamNonBlocking),
                           "cudaStreamCreateWithFlags"));
  SE_RETURN_IF_ERROR(
      check(cudaEventCreateWithFlags(&stage_event_, cudaEventBlockingSync | cudaEventDisableTiming),
            "cudaEventCreateWithFlags"));
  SE_RETURN_IF_ERROR(copier_.open());
  SE_RETURN_IF_ERROR(check(find_early_launches(&early_launches_), "early launches"));
  early_launches_ = early_launches_ && is_switched_on("SPARSE_EXPERTS_CUDA_EARLY_LAUNCHES");
  SE_RETURN_IF_ERROR(check(prepare_expert_matmul(limits_.device), "expert_matmul kernels"));
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.devices.push_back(this);
  return Status::ok();
}

Status Device::enter() {
  if (is_lost()) return {SE_DEVICE_LOST, lost_cause()};
  return check(cudaSetDevice(index_), "cudaSetDevice");
}

std::string Device::lost_cause() {
  std::lock_guard<std::mutex> lock(lost_mutex_);
  return lost_cause_;
}

Status Device::failure(cudaError_t error, const char* what, uint64_t needed_bytes) {
  if (is_lost()) return {SE_DEVICE_LOST, lost_cause()};
  // The first call takes the error out of the runtime's state; what comes again is there to stay.
  static_cast<void>(cudaGetLastError());
  const cudaError_t lasting = cudaGetLastError();
  if (is_terminal(error) || (lasting != cudaSuccess && lasting != cudaErrorNotReady)) {
    {
      std::lock_guard<std::mutex> lock(lost_mutex_);
      if (lost_cause_.empty())
        lost_cause_ = error_text(error, what) + "; the device is lost until the process restarts";
    }
    is_lost_.store(true, std::memory_order_release);
    return {SE_DEVICE_LOST, lost_cause()};
  }
  if (error == cudaErrorMemoryAllocation) return out_of_memory(needed_bytes);
  return {SE_INTERNAL, error_text(error, what)};
}

Status Device::out_of_memory(uint64_t needed_bytes) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  if (cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    free_bytes = 0;
  }
  return Status::out_of_memory(needed_bytes, free_bytes);
}

Status Device::synchronize(cudaStream_t stream, cudaEvent_t event, const char* what,
                           std::chrono::nanoseconds poll_for) {
  SE_RETURN_IF_ERROR(check(cudaEventRecord(event, stream), what));
  const auto began = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - began < poll_for) {
    const cudaError_t error = cudaEventQuery(event);
    if (error != cudaErrorNotReady) return check(error, what);
    static_cast<void>(cudaGetLastError());  // "not ready" is no failure of whoever asks next
    std::this_thread::yield();
  }
  return check(cudaEventSynchronize(event), what);
}

}  // namespace sparse_experts::cuda
