#include "core/host_memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#include <unistd.h>

#include "core/numeric.h"

namespace sparse_experts {
namespace {

constexpr uint64_t kCacheLine = 64;
constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kHugeThreshold = 2 * kHugePage;
// Below this, asking the system what is left costs more than it protects.
constexpr uint64_t kCheckThreshold = uint64_t{64} << 20;

}  // namespace

HostMemoryInfo host_memory_info() {
  HostMemoryInfo info;
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_bytes > 0) {
    info.total_bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
    info.free_bytes = info.total_bytes;
  }
  if (std::FILE* file = std::fopen("/proc/meminfo", "r")) {
    char line[256];
    unsigned long long kilobytes = 0;
    while (std::fgets(line, sizeof line, file) != nullptr) {
      if (std::sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1) {
        info.free_bytes = static_cast<uint64_t>(kilobytes) * 1024;
        break;
      }
    }
    std::fclose(file);
  }
  return info;
}

Status host_allocate(uint64_t bytes, void** data) {
  *data = nullptr;
  if (bytes == 0) bytes = 1;
  if (bytes >= kCheckThreshold) {
    const uint64_t free_bytes = host_memory_info().free_bytes;
    if (bytes > free_bytes) return Status::out_of_memory(bytes, free_bytes);
  }
  const uint64_t alignment = bytes >= kHugeThreshold ? kHugePage : kCacheLine;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, round_up(bytes, kCacheLine)) != 0) {
    return Status::out_of_memory(bytes, host_memory_info().free_bytes);
  }
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Advice only: a kernel without huge pages refuses it, and nothing is lost.
  if (alignment == kHugePage) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  *data = memory;
  return Status::ok();
}

void host_free(void* data) { std::free(data); }

}  // namespace sparse_experts
