// Memory of the system: blocks of it, and what is left.
#pragma once

#include <cstdint>

namespace sparse_experts::platform {

struct SystemMemory {
  uint64_t total_bytes = 0;  // of the machine, or the limit on this process
  uint64_t free_bytes = 0;   // what can be had without swapping, within that limit
};

SystemMemory system_memory();

// Whole pages, zeroed, that go back to the system at once when they are freed. Aligned to `alignment`
// (a power of two) and offered to huge pages where the system has a way to ask for that, else to
// 64 KiB. Null: the system refuses.
void* map_pages(uint64_t bytes, uint64_t alignment);
// `bytes` and `alignment` as they were asked for.
void unmap_pages(void* memory, uint64_t bytes, uint64_t alignment);

// A block of the heap. Null: there is no more.
void* allocate_aligned(uint64_t bytes, uint64_t alignment);
void free_aligned(void* memory);

}  // namespace sparse_experts::platform
