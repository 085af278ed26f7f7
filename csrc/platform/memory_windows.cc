#include <malloc.h>

#include <algorithm>

#include "platform/memory.h"
#include "platform/windows.h"
// After windows.h.
#include <psapi.h>

namespace sparse_experts::platform {
namespace {

// Memory that this process has committed: what a job's limit counts.
uint64_t committed_bytes() {
  PROCESS_MEMORY_COUNTERS counters = {};
  counters.cb = sizeof counters;
  if (K32GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters) == 0) return 0;
  return counters.PagefileUsage;
}

// The limit of the job that this process is in (containers are jobs); UINT64_MAX without one. Of a
// limit on all processes of a job the others' part is not known.
uint64_t job_limit() {
  JOBOBJECT_EXTENDED_LIMIT_INFORMATION info = {};
  if (QueryInformationJobObject(nullptr, JobObjectExtendedLimitInformation, &info, sizeof info,
                                nullptr) == 0)
    return UINT64_MAX;
  uint64_t limit = UINT64_MAX;
  const DWORD flags = info.BasicLimitInformation.LimitFlags;
  if ((flags & JOB_OBJECT_LIMIT_PROCESS_MEMORY) != 0)
    limit = std::min<uint64_t>(limit, info.ProcessMemoryLimit);
  if ((flags & JOB_OBJECT_LIMIT_JOB_MEMORY) != 0)
    limit = std::min<uint64_t>(limit, info.JobMemoryLimit);
  return limit;
}

}  // namespace

SystemMemory system_memory() {
  SystemMemory memory;
  MEMORYSTATUSEX status = {};
  status.dwLength = sizeof status;
  if (GlobalMemoryStatusEx(&status) != 0) {
    memory.total_bytes = status.ullTotalPhys;
    // ullAvailPageFile: what may still be committed.
    memory.free_bytes = std::min(status.ullAvailPhys, status.ullAvailPageFile);
  }
  const uint64_t limit = job_limit();
  if (limit != UINT64_MAX) {
    const uint64_t used = committed_bytes();
    memory.total_bytes = std::min(memory.total_bytes, limit);
    memory.free_bytes = std::min(memory.free_bytes, limit > used ? limit - used : 0);
  }
  return memory;
}

void* map_pages(uint64_t bytes, uint64_t) {
  return VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

void unmap_pages(void* memory, uint64_t, uint64_t) { VirtualFree(memory, 0, MEM_RELEASE); }

void* allocate_aligned(uint64_t bytes, uint64_t alignment) {
  return _aligned_malloc(bytes, alignment);
}

void free_aligned(void* memory) { _aligned_free(memory); }

}  // namespace sparse_experts::platform
