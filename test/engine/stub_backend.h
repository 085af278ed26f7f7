// A backend for tests of the engine: it computes nothing, keeps count of what it is asked for, and is
// slow, lost, short of memory or failing when told to be. Its devices' memory is the host's.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "abi/backend.h"

namespace engine_test {

enum class Call {
  kDeviceInfo,
  kDeviceOpen,
  kAllocate,
  kCopyToDevice,
  kCopyToHost,
  kMatrixWrite,
  kLayerOpen,
  kForward,
  kNumCalls
};

// One device. Tests set the first group and read the second, on any thread.
class Stub {
 public:
  Stub();
  ~Stub();
  Stub(const Stub&) = delete;
  Stub& operator=(const Stub&) = delete;

  // The table of device functions. device_open opens the Stub made last.
  static const SeBackend* table();

  // The call number `nth` (0: the next) of this kind fails with `code`, the others do not.
  void fail(Call call, int32_t code, int nth = 0);

  std::atomic<bool> is_lost{false};  // every call fails with SE_DEVICE_LOST
  std::atomic<bool> is_host{true};
  std::atomic<bool> is_batch_invariant{true};
  std::atomic<uint64_t> memory_limit{UINT64_MAX};
  std::atomic<int64_t> granule{0};
  std::atomic<bool> holds_matrices{true};
  std::atomic<bool> converts_to_bf16{false};  // else matrices are held in the dtype asked for
  std::atomic<int> write_milliseconds{0};     // what a matrix_write takes
  // A forward takes until it is cancelled or this is false.
  std::atomic<bool> hold_forward{false};
  std::atomic<uint64_t> workspace_bytes{1024};

  int calls(Call call) const { return calls_[static_cast<size_t>(call)].load(); }
  uint64_t live_bytes() const { return live_bytes_.load(); }
  int allocations() const { return allocations_.load(); }
  int plans() const { return plans_.load(); }
  int open_devices() const { return open_devices_.load(); }
  int open_layers() const { return open_layers_.load(); }
  int forwards_running() const { return forwards_running_.load(); }
  int most_forwards_at_once() const { return most_forwards_.load(); }
  // Rows of each forward that ended well, in their order.
  std::vector<int64_t> rows();
  // Anything that no caller may do: freeing what is not held or with another size, a second close,
  // rows that break a granule.
  int breaches() const { return breaches_.load(); }

 private:
  friend struct StubCalls;
  int32_t enter(Call call, SeStatus* status);
  static int32_t report(int32_t code, SeStatus* status);
  void note_rows(int64_t rows);

  std::mutex mutex_;
  std::vector<int64_t> rows_;
  std::map<void*, uint64_t> blocks_;
  std::set<void*> pinned_;  // of them
  std::array<std::atomic<int>, static_cast<size_t>(Call::kNumCalls)> calls_{};
  std::array<std::atomic<int>, static_cast<size_t>(Call::kNumCalls)> failing_call_;
  std::array<std::atomic<int32_t>, static_cast<size_t>(Call::kNumCalls)> failing_code_;
  std::atomic<uint64_t> live_bytes_{0};
  std::atomic<int> allocations_{0};
  std::atomic<int> plans_{0};
  std::atomic<int> open_devices_{0};
  std::atomic<int> open_layers_{0};
  std::atomic<int> forwards_running_{0};
  std::atomic<int> most_forwards_{0};
  std::atomic<int> breaches_{0};
};

}  // namespace engine_test
