// Planned failures of the emulated runtime, and its state as tests want to see it.
//
// A plan is "kind:n[,kind:n…]": the n-th such call from now on (1 = the next) fails, once.
//   malloc   cudaMalloc                              cudaErrorMemoryAllocation
//   host     cudaMallocHost, cudaHostAlloc           cudaErrorMemoryAllocation
//   copy     cudaMemcpy…, cudaMemset…                cudaErrorOperatingSystem
//   launch   kernel and graph launches               cudaErrorLaunchOutOfResources
//   graph    cudaGraphInstantiate                    cudaErrorMemoryAllocation
//   stream   cudaStreamCreate…                       cudaErrorMemoryAllocation
//   event    cudaEventCreate…                        cudaErrorMemoryAllocation
//   sticky   the n-th kernel that runs ends in cudaErrorIllegalAddress,
//            and so does every later call on its device:
//            as on a GPU there is no way back, but for revive_devices
// Environment, read when the runtime is first used:
//   SIMT_FAIL=<plan>             SIMT_DEVICES=1          SIMT_DRIVER=none|<version>
//   SIMT_COMPUTE_CAPABILITY=80   SIMT_MULTIPROCESSORS=4  SIMT_MEMORY_BYTES=4294967296
//   SIMT_POLLS=3: how often a query of unfinished work answers "not ready" before the work runs
// SIMT_COMPUTE_CAPABILITY may name one per device ("80,90"; the last one repeats).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace simt {

// False (and no change): the plan does not read as above. Replaces the plan and restarts its
// counts.
bool set_faults(const std::string& plan);
void clear_faults();
// Planned failures that have not happened yet.
int64_t pending_faults();

// Undoes sticky failures on all devices; work queued on them is gone.
void revive_devices();

// Drops everything (allocations, streams, events, graphs, queued work, failures) and reads the
// environment again at the next use. For tests only: nothing may use the runtime at the same time.
void reset_runtime();

struct RuntimeCounters {
  uint64_t allocations = 0;       // calls of cudaMalloc that succeeded, ever
  uint64_t host_allocations = 0;  // likewise pinned
  uint64_t live_allocations = 0;  // device and pinned, now
  uint64_t live_device_bytes = 0;
  uint64_t live_host_bytes = 0;
  uint64_t copies = 0;        // calls, copies and fills
  uint64_t copied_bytes = 0;  // done, fills not included
  uint64_t launches = 0;      // kernels queued or captured
  uint64_t kernels_run = 0;
  uint64_t graph_launches = 0;
  uint64_t graphs_instantiated = 0;
  uint64_t synchronisations = 0;  // calls that wait
  uint64_t live_streams = 0;
  uint64_t live_events = 0;
  uint64_t live_graphs = 0;  // graphs and executable graphs
  uint64_t defects = 0;      // of kernels and of queued copies
};
RuntimeCounters runtime_counters();

}  // namespace simt

// The same for a process that has the library open but not its headers.
extern "C" {
__attribute__((visibility("default"))) int32_t simt_set_faults(const char* plan);  // 0: not read
__attribute__((visibility("default"))) void simt_revive_devices(void);
// Writes at most `size` bytes with the closing zero; returns the bytes needed without it.
__attribute__((visibility("default"))) uint64_t simt_counters_json(char* text, uint64_t size);
__attribute__((visibility("default"))) int64_t simt_allocation_count(void);  // live ones
}
