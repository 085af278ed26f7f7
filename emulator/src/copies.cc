// cp.async: a copy is queued by its thread, its destination becomes 0xFF at once, and the data
// lands in the wait that covers its group: as late as the hardware may do it. Whoever reads too
// early, or waits for too few groups, sees NaN. Copies that an mbarrier waits for (mbarrier.cc) land
// when a thread waits for that.
#include <cstring>

#include "block.h"
#include "mbarrier.h"
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
  block->mbarriers->check_not_in_flight(thread, offset, size, "cp.async", site);
  race_copy_issued(thread, offset, size, site);
  race_early_read(thread, source, bytes, site);
  std::memset(block->arena() + offset, 0xFF, size);
  thread->copies.push_back({offset, thread->committed_groups, source, bytes, size, site});
  ++block->counters.cp_async;
  block->counters.cp_async_bytes += bytes;
  block->record_access(thread, AccessKind::kCopyAsync, file, line,
                       reinterpret_cast<uint64_t>(source), bytes, offset, size);
}

void copy_async_commit() { ++self()->committed_groups; }

namespace {

void land_next(Thread* thread, uint32_t clock) {
  const Copy& copy = thread->copies[thread->landed];
  unsigned char* target = thread->block->arena() + copy.offset;
  race_copy_landed(thread, copy.offset, copy.size, copy.source, copy.bytes, clock, copy.site);
  if (copy.bytes > 0) std::memcpy(target, copy.source, copy.bytes);
  std::memset(target + copy.bytes, 0, copy.size - copy.bytes);
  ++thread->landed;
}

void drop_landed(Thread* thread) {
  if (thread->landed < thread->copies.size()) return;
  thread->dropped += thread->copies.size();
  thread->copies.clear();
  thread->landed = 0;
}

}  // namespace

void copy_async_wait(unsigned pending) {
  Thread* thread = self();
  EngineScope scope(thread);
  thread->block->check_time(thread);
  // Copies after the last commit belong to no group yet: no wait covers them.
  while (thread->landed < thread->copies.size() &&
         thread->copies[thread->landed].group + pending < thread->committed_groups) {
    land_next(thread, 0);
  }
  drop_landed(thread);
}

void land_copies(Thread* owner, uint64_t count, uint32_t clock) {
  while (owner->landed < owner->copies.size() && owner->dropped + owner->landed < count) {
    land_next(owner, clock);
  }
  drop_landed(owner);
}

}  // namespace simt::detail
