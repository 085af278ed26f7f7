// Host memory: aligned allocation that fails cleanly, and what the system has left.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/status.h"

namespace sparse_experts {

struct HostMemoryInfo {
  uint64_t total_bytes = 0;  // of the machine, or the limit on this process
  uint64_t free_bytes = 0;   // what can be had without swapping, within that limit, less pledges
};

HostMemoryInfo host_memory_info();

// Memory that has been allocated and will be touched: until then the system counts it as free, and
// whoever asks meanwhile must not be told so. Of this process; other processes are not known.
class HostPledge {
 public:
  HostPledge() = default;
  ~HostPledge() { release(); }
  HostPledge(const HostPledge&) = delete;
  HostPledge& operator=(const HostPledge&) = delete;

  void add(uint64_t bytes);
  // So many of them have been touched. Any thread.
  void fulfil(uint64_t bytes);
  void release();

 private:
  std::atomic<uint64_t> bytes_{0};
};

// 64-byte aligned; on POSIX systems 2 MiB aligned and offered to huge pages from 4 MiB on. More than the system has
// left is refused at once: an overcommitted allocation would succeed here and end the process at
// first touch. Contents are arbitrary.
Status host_allocate(uint64_t bytes, void** data);
// bytes: what was asked for. Large blocks go back to the system at once.
void host_free(void* data, uint64_t bytes);

}  // namespace sparse_experts
