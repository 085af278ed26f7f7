// What the emulated runtime knows: devices, allocations, handles, planned failures. One mutex
// guards all of it and is never held while queued work runs (queue.h has the lock for that).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "simt/faults.h"
#include "simt/runtime_api.h"

namespace simt::runtime {

using Clock = std::chrono::steady_clock;

// ---- work -------------------------------------------------------------------------------------

// Something that runs later. What it returns other than success is the device's end.
struct Work {
  std::function<cudaError_t()> run;  // empty: a marker
  const char* kind = "marker";
  bool has_host_function = false;
};

struct Operation {
  int device = 0;
  Work work;
  std::vector<std::shared_ptr<Operation>> after;  // emptied once done
  bool done = false;
  Clock::time_point finished;
};
using OperationPointer = std::shared_ptr<Operation>;

struct GraphNode {
  Work work;
  std::vector<size_t> after;  // earlier nodes
};
struct GraphData {
  int device = 0;
  std::vector<GraphNode> nodes;
};

struct Capture {
  CUstream_st* origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool invalid = false;
  bool ended = false;
  std::shared_ptr<GraphData> graph = std::make_shared<GraphData>();
  std::vector<CUstream_st*> members;  // origin and the streams that joined by an event
};

// ---- devices and memory -----------------------------------------------------------------------

// What tells one device from another. The rest follows from the compute capability.
struct DeviceModel {
  int compute_capability = 80;
  int multiprocessors = 4;
  uint64_t memory_bytes = 4ull << 30;

  int threads_per_multiprocessor() const;
  int blocks_per_multiprocessor() const;
  int64_t shared_bytes_per_block() const;  // opt-in
  int64_t shared_bytes_per_multiprocessor() const;
  int64_t l2_bytes() const;
};

struct Environment {
  int driver_version = 13000;  // 0: no driver
  std::vector<DeviceModel> devices;
  int polls = 3;
};
Environment read_environment();

enum class MemoryKind { kDevice, kPinned, kRegistered };

struct Allocation {
  size_t bytes = 0;
  MemoryKind kind = MemoryKind::kDevice;
  int device = 0;
};

}  // namespace simt::runtime

// ---- handles ----------------------------------------------------------------------------------

struct CUstream_st {
  int device = 0;
  bool legacy = false;
  bool blocking = true;
  unsigned flags = 0;
  int priority = 0;
  int polls = 0;
  simt::runtime::OperationPointer tail;
  std::shared_ptr<simt::runtime::Capture> capture;
  std::vector<size_t> capture_tail;  // what the next captured node comes after
};

struct CUevent_st {
  int device = 0;
  bool timing = true;
  int polls = 0;
  simt::runtime::OperationPointer recorded;  // null: never recorded, or captured
  std::shared_ptr<simt::runtime::Capture> capture;
  std::vector<size_t> capture_nodes;
};

struct CUgraph_st {
  std::shared_ptr<simt::runtime::GraphData> data;
};

struct CUgraphExec_st {
  std::shared_ptr<const simt::runtime::GraphData> data;
  simt::runtime::OperationPointer last_launch;  // launches of one executable graph never overlap
};

namespace simt::runtime {

struct Device {
  DeviceModel model;
  cudaError_t failure = cudaSuccess;  // sticky
  uint64_t used_bytes = 0;
  int64_t pending = 0;                                    // operations not done
  CUstream_st legacy;                                     // the default stream
  std::vector<OperationPointer> orphans;                  // tails of destroyed streams
  std::unordered_map<const void*, size_t> shared_limits;  // kernels that may use more than 48 KiB
};

struct Fault {
  std::string kind;
  int64_t countdown = 0;
};

// ---- the runtime ------------------------------------------------------------------------------

struct Runtime {
  std::mutex mutex;      // everything below
  std::mutex execution;  // held while queued work runs; taken before `mutex`

  std::atomic<uint64_t> generation{0};  // of reset_runtime
  bool configured = false;
  bool has_driver = true;
  int driver_version = 0;
  int polls = 3;
  std::vector<std::unique_ptr<Device>> devices;
  std::map<uintptr_t, Allocation> allocations;  // by address
  std::unordered_set<CUstream_st*> streams;     // without the legacy ones
  std::unordered_set<CUevent_st*> events;
  std::unordered_set<CUgraph_st*> graphs;
  std::unordered_set<CUgraphExec_st*> execs;
  std::vector<std::shared_ptr<Capture>> captures;  // under way
  std::vector<Fault> faults;
  bool faults_from_environment = true;
  RuntimeCounters counters;
  std::unordered_set<std::string> reported;  // defects on stderr, once each
};

// The one instance, configured; it is never destroyed, so any thread may use it at exit.
Runtime& runtime();
void configure(Runtime& state);  // mutex held

// What belongs to the calling OS thread.
struct ThreadState {
  uint64_t generation = 0;
  int device = 0;
  cudaError_t last_error = cudaSuccess;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  bool in_host_function = false;
};
ThreadState& thread_state();

Device& current_device(Runtime& state);  // mutex held; there is at least one device

// Null: no such handle. A null or legacy handle is the current device's default stream.
CUstream_st* find_stream(Runtime& state, cudaStream_t handle);

// Whether the next call of this kind is planned to fail. Mutex held.
bool fault_due(Runtime& state, const char* kind);

// One line on stderr for each different text.
void report(Runtime& state, const std::string& text);  // mutex held

// ---- calls ------------------------------------------------------------------------------------

using Lock = std::unique_lock<std::mutex>;

enum class Needs {
  kNothing,  // works without driver and device
  kDevice,   // a driver and a device
  kHealthy   // and one that has not failed
};

// What every call does first: refuses calls from host functions, without a driver or a device, or
// on a failed device. Mutex held.
cudaError_t admit(Runtime& state, Needs needs);

// Keeps the error for cudaGetLastError, unless the device itself holds it. Mutex held.
cudaError_t recorded(Runtime& state, cudaError_t error);

// Runs body(state, lock) with the mutex held; the body may release it.
template <typename Body>
cudaError_t attempt(Needs needs, Body&& body) {
  Runtime& state = runtime();
  Lock lock(state.mutex);
  cudaError_t error = admit(state, needs);
  if (error == cudaSuccess) {
    try {
      error = body(state, lock);
    } catch (const std::bad_alloc&) {
      error = cudaErrorMemoryAllocation;
    } catch (...) {
      error = cudaErrorUnknown;
    }
  }
  return error;
}

// The same, and the error is kept for cudaGetLastError.
template <typename Body>
cudaError_t call(Needs needs, Body&& body) {
  const cudaError_t error = attempt(needs, body);
  if (error == cudaSuccess) return error;
  Runtime& state = runtime();
  const Lock lock(state.mutex);
  return recorded(state, error);
}

}  // namespace simt::runtime
