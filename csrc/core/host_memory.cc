#include "core/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// Under ASan every block stays on the heap, where its bounds are watched.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#define SE_OWN_PAGES 1
#include <sys/mman.h>
#endif

#include "core/memory_limits.h"
#include "core/numeric.h"

namespace sparse_experts {
namespace {

constexpr uint64_t kCacheLine = 64;
constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kHugeThreshold = 2 * kHugePage;
// Below this, asking the system what is left costs more than it protects.
constexpr uint64_t kCheckThreshold = uint64_t{64} << 20;

#if defined(SE_OWN_PAGES)

// Pages of their own, so that freeing gives them back at once: the heap would keep blocks of this
// size once it has seen a few.
void* map_pages(uint64_t bytes) {
  const uint64_t wanted = round_up(bytes, kHugePage);
  if (wanted < bytes || wanted + kHugePage < wanted) return nullptr;
  void* mapped = mmap(nullptr, wanted + kHugePage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const uint64_t begin = reinterpret_cast<uint64_t>(mapped);
  const uint64_t aligned = round_up(begin, kHugePage);
  char* memory = static_cast<char*>(mapped) + (aligned - begin);
  if (aligned > begin) munmap(mapped, aligned - begin);
  const uint64_t tail = begin + kHugePage - aligned;
  if (tail > 0) munmap(memory + wanted, tail);
#if defined(MADV_HUGEPAGE)
  // Advice only: a kernel without huge pages refuses it, and nothing is lost.
  madvise(memory, wanted, MADV_HUGEPAGE);
#endif
  return memory;
}

#endif

// Of all pledges of the process.
std::atomic<uint64_t> pledged_bytes{0};

}  // namespace

void HostPledge::add(uint64_t bytes) {
  bytes_ += bytes;
  pledged_bytes += bytes;
}

void HostPledge::fulfil(uint64_t bytes) {
  uint64_t held = bytes_;
  while (!bytes_.compare_exchange_weak(held, held - std::min(held, bytes))) {
  }
  pledged_bytes -= std::min(held, bytes);
}

void HostPledge::release() { pledged_bytes -= bytes_.exchange(0); }

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
  const MemoryLimit limit = memory_limit();
  info.total_bytes = std::min(info.total_bytes, limit.limit_bytes);
  info.free_bytes = std::min(info.free_bytes, limit.left_bytes);
  info.free_bytes -= std::min<uint64_t>(info.free_bytes, pledged_bytes);
  return info;
}

Status host_allocate(uint64_t bytes, void** data) {
  *data = nullptr;
  if (bytes == 0) bytes = 1;
  if (bytes >= kCheckThreshold) {
    const uint64_t free_bytes = host_memory_info().free_bytes;
    if (bytes > free_bytes) return Status::out_of_memory(bytes, free_bytes);
  }
#if defined(SE_OWN_PAGES)
  if (bytes >= kHugeThreshold) {
    *data = map_pages(bytes);
    if (*data != nullptr) return Status::ok();
    return Status::out_of_memory(bytes, host_memory_info().free_bytes);
  }
#endif
  void* memory = nullptr;
  if (posix_memalign(&memory, kCacheLine, round_up(bytes, kCacheLine)) != 0)
    return Status::out_of_memory(bytes, host_memory_info().free_bytes);
  *data = memory;
  return Status::ok();
}

void host_free(void* data, uint64_t bytes) {
  if (data == nullptr) return;
#if defined(SE_OWN_PAGES)
  if (bytes >= kHugeThreshold) {
    munmap(data, round_up(bytes, kHugePage));
    return;
  }
#else
  (void)bytes;
#endif
  std::free(data);
}

}  // namespace sparse_experts
