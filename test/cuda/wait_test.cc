// How a call waits for the GPU: by asking for a while, then asleep.
#include <cuda_runtime.h>

#include <chrono>

#include "cuda/device_array.h"
#include "cuda/device_layer.h"
#include "cuda/harness.h"
#include "cuda/layer/layer.h"
#include "cuda/runtime/device.h"

#if defined(SIMT_EMULATOR)
#include <simt/faults.h>
#endif

namespace native_test {
namespace {

TEST_SUITE_BEGIN("wait");

using sparse_experts::cuda::poll_time;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

TEST_CASE("how long") {
  CHECK_MESSAGE(poll_time(nanoseconds(0)) == microseconds(50), "nothing known yet");
  CHECK_MESSAGE(poll_time(microseconds(10)) == microseconds(50), "a very short call");
  CHECK_MESSAGE(poll_time(microseconds(300)) == microseconds(600), "twice the last wait");
  CHECK_MESSAGE(poll_time(milliseconds(1)) == milliseconds(2), "the longest that is polled for");
  CHECK_MESSAGE(poll_time(milliseconds(30)) == nanoseconds(0), "a long call");
}

#if defined(SIMT_EMULATOR)
// The emulator answers "not ready" a few times before queued work runs.
TEST_CASE("polls, then sleeps") {
  const OpenDevice opened;
  sparse_experts::cuda::Device& device = *opened.get();
  const DeviceArray<int32_t> array(100);
  const auto sleeps = [&](nanoseconds poll_for) {
    must(cudaMemsetAsync(array.data(), 0, array.bytes(), device.stage_stream()), "work");
    const uint64_t before = simt::runtime_counters().synchronisations;
    const auto status =
        device.synchronize(device.stage_stream(), device.stage_event(), "wait", poll_for);
    CHECK_MESSAGE(status.is_ok(), status.message());
    CHECK_MESSAGE(cudaGetLastError() == cudaSuccess, "no error is left behind");
    return simt::runtime_counters().synchronisations - before;
  };
  CHECK_MESSAGE(sleeps(nanoseconds(0)) == 1, "sleeps at once");
  CHECK_MESSAGE(sleeps(nanoseconds(1)) == 1, "sleeps when the time is over");
  CHECK_MESSAGE(sleeps(std::chrono::minutes(1)) == 0, "sees the end while it asks");
}
#endif

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
