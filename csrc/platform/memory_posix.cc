#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "platform/memory.h"
#include "platform/memory_limits.h"

namespace sparse_experts::platform {
namespace {

uint64_t round_up_to(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

}  // namespace

SystemMemory system_memory() {
  SystemMemory memory;
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_bytes > 0) {
    memory.total_bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
    memory.free_bytes = memory.total_bytes;
  }
  if (std::FILE* file = std::fopen("/proc/meminfo", "r")) {
    char line[256];
    unsigned long long kilobytes = 0;
    while (std::fgets(line, sizeof line, file) != nullptr) {
      if (std::sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1) {
        memory.free_bytes = static_cast<uint64_t>(kilobytes) * 1024;
        break;
      }
    }
    std::fclose(file);
  }
  const MemoryLimit limit = memory_limit();
  memory.total_bytes = std::min(memory.total_bytes, limit.limit_bytes);
  memory.free_bytes = std::min(memory.free_bytes, limit.left_bytes);
  return memory;
}

void* map_pages(uint64_t bytes, uint64_t alignment) {
  const uint64_t wanted = round_up_to(bytes, alignment);
  if (wanted < bytes || wanted + alignment < wanted) return nullptr;
  void* mapped = mmap(nullptr, wanted + alignment, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const uint64_t begin = reinterpret_cast<uint64_t>(mapped);
  const uint64_t aligned = round_up_to(begin, alignment);
  char* memory = static_cast<char*>(mapped) + (aligned - begin);
  if (aligned > begin) munmap(mapped, aligned - begin);
  const uint64_t tail = begin + alignment - aligned;
  if (tail > 0) munmap(memory + wanted, tail);
#if defined(MADV_HUGEPAGE)
  // Advice only: a kernel without huge pages refuses it, and nothing is lost.
  madvise(memory, wanted, MADV_HUGEPAGE);
#endif
  return memory;
}

void unmap_pages(void* memory, uint64_t bytes, uint64_t alignment) {
  munmap(memory, round_up_to(bytes, alignment));
}

void* allocate_aligned(uint64_t bytes, uint64_t alignment) {
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, bytes) == 0 ? memory : nullptr;
}

void free_aligned(void* memory) { std::free(memory); }

}  // namespace sparse_experts::platform
