#include "core/host_memory.h"

#include <algorithm>

#include "core/numeric.h"
#include "platform/memory.h"

namespace sparse_experts {
namespace {

constexpr uint64_t kCacheLine = 64;
constexpr uint64_t kHugePage = uint64_t{2} << 20;
// Blocks from here on are pages of their own, so that freeing gives them back at once: the heap would
// keep blocks of this size once it has seen a few. Under AddressSanitizer every block stays on the
// heap, where its bounds are watched.
#if defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kHugeThreshold = UINT64_MAX;
#else
constexpr uint64_t kHugeThreshold = 2 * kHugePage;
#endif
// Below this, asking the system what is left costs more than it protects.
constexpr uint64_t kCheckThreshold = uint64_t{64} << 20;

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
  const platform::SystemMemory memory = platform::system_memory();
  const uint64_t pledged = pledged_bytes;
  return {memory.total_bytes, memory.free_bytes - std::min(memory.free_bytes, pledged)};
}

Status host_allocate(uint64_t bytes, void** data) {
  *data = nullptr;
  if (bytes == 0) bytes = 1;
  if (bytes >= kCheckThreshold) {
    const uint64_t free_bytes = host_memory_info().free_bytes;
    if (bytes > free_bytes) return Status::out_of_memory(bytes, free_bytes);
  }
  *data = bytes >= kHugeThreshold
              ? platform::map_pages(bytes, kHugePage)
              : platform::allocate_aligned(round_up(bytes, kCacheLine), kCacheLine);
  if (*data == nullptr) return Status::out_of_memory(bytes, host_memory_info().free_bytes);
  return Status::ok();
}

void host_free(void* data, uint64_t bytes) {
  if (data == nullptr) return;
  if (bytes >= kHugeThreshold) {
    platform::unmap_pages(data, bytes, kHugePage);
  } else {
    platform::free_aligned(data);
  }
}

}  // namespace sparse_experts
