// cp.async: a copy is queued by its thread, its destination becomes 0xFF at once, and the data
// lands in the wait that covers its group: as late as the hardware may do it. Whoever reads too
// early, or waits for too few groups, sees NaN.
#include <cstring>

#include "block.h"
#include "race.h"
#include "simt/ptx.h"

namespace simt::detail {

void copy_async(uint32_t shared, const void* source, uint32_t bytes, uint32_t size,
                const char* file, int line) {
  Thread* thread = self();
  EngineScope scope(thread);
  Block* block = thread->block;
  const Site site = {file, line};
  const uint32_t offset = block->checked_offset(thread, shared, size, "cp.async", site);
  if (reinterpret_cast<uintptr_t>(source) % size != 0) {
    block->fail(thread, DefectKind::kMisaligned,
                "cp.async: the source's address is not a multiple of " + std::to_string(size),
                site);
  }
  if (bytes > size) {
    block->fail(thread, DefectKind::kOutOfBounds,
                "cp.async: " + std::to_string(bytes) + " source bytes for a copy of " +
                    std::to_string(size),
                site);
  }
  race_copy_issued(thread, offset, size, site);
  std::memset(block->arena() + offset, 0xFF, size);
  thread->copies.push_back({offset, thread->committed_groups, source, bytes, size, site});
  ++block->counters.cp_async;
  block->counters.cp_async_bytes += bytes;
  block->record_access(thread, AccessKind::kCopyAsync, file, line,
                       reinterpret_cast<uint64_t>(source), bytes, offset, size);
}

void copy_async_commit() { ++self()->committed_groups; }

void copy_async_wait(unsigned pending) {
  Thread* thread = self();
  EngineScope scope(thread);
  Block* block = thread->block;
  block->check_time(thread);
  std::vector<Copy>& copies = thread->copies;
  // Copies after the last commit belong to no group yet: no wait covers them.
  while (thread->landed < copies.size() &&
         copies[thread->landed].group + pending < thread->committed_groups) {
    const Copy& copy = copies[thread->landed];
    unsigned char* target = block->arena() + copy.offset;
    race_copy_landed(thread, copy.offset, copy.size, copy.source, copy.bytes, copy.site);
    if (copy.bytes > 0) std::memcpy(target, copy.source, copy.bytes);
    std::memset(target + copy.bytes, 0, copy.size - copy.bytes);
    ++thread->landed;
  }
  if (thread->landed == copies.size()) {
    copies.clear();
    thread->landed = 0;
  }
}

}  // namespace simt::detail
