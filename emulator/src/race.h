// What the engine tells the race detector. In the other flavours there is none and nothing happens.
#pragma once

#include <cstdint>
#if defined(SIMT_RACE)
#include <vector>
#endif

namespace simt::detail {

class Block;
struct Thread;
struct Warp;
struct Site;

constexpr uint32_t kMostBarriers = 64;    // mbarriers of a block
constexpr uint32_t kMostWarpGroups = 32;  // rounded up to the words of a set

// Who works on memory besides threads (race_clocks.h): the copies that an mbarrier counts, or the
// wgmmas of a warp group, and when in its own counting.
struct AsyncActor {
  bool is_wgmma;
  uint32_t index;  // of the barrier or the group
  uint32_t clock;
};

#if defined(SIMT_RACE)
// What was ordered before a synchronising object: an mbarrier's phase, a named barrier.
struct SyncClock {
  std::vector<uint32_t> seen;
  std::vector<uint32_t> fenced;
};
void race_begin_launch();
void race_begin_block(Block* block);
void race_block_barrier(Block* block);
void race_warp_barrier(Warp* warp, uint32_t mask);
void race_shared_read(Thread* thread, uint32_t offset, uint32_t bytes, Site site);
void race_copy_issued(Thread* thread, uint32_t offset, uint32_t bytes, Site site);
// The copy's source may be read from now on, which counts as an access where the copy lands: may it be?
void race_early_read(Thread* thread, const void* address, uint32_t bytes, Site site);
// `clock`: of the thread when it promised the landing; 0: now.
void race_copy_landed(Thread* thread, uint32_t offset, uint32_t bytes, const void* source,
                      uint32_t source_bytes, uint32_t clock, Site site);
void race_global_read(Thread* thread, const void* address, uint32_t bytes, Site site);
void race_global_write(Thread* thread, const void* address, uint32_t bytes, Site site);
void race_shared_write(Thread* thread, uint32_t offset, uint32_t bytes, Site site);
// The thread's own clock, and the ways in which it comes to be ordered after others.
uint32_t race_now(Thread* thread);
void race_release(Thread* thread, SyncClock* clock);
void race_acquire(Thread* thread, const SyncClock& clock);
bool race_is_ordered_after(Thread* thread, uint32_t other, const SyncClock& clock);
void race_join(SyncClock* to, const SyncClock& from);
void race_complete(SyncClock* clock, AsyncActor actor);
void race_observe(Thread* thread, AsyncActor actor);
void race_proxy_fence(Thread* thread);
// The thread lets hardware read or write shared memory on its own. A write is in flight until it
// lands.
void race_async_read(Thread* thread, AsyncActor actor, uint32_t offset, uint32_t bytes, Site site);
void race_async_write(Thread* thread, AsyncActor actor, uint32_t offset, uint32_t bytes, Site site);
void race_async_landed(Thread* thread, AsyncActor actor, uint32_t offset, uint32_t bytes,
                       Site site);
// Shared memory that a bulk copy will read: what was written there is ordered and fenced.
void race_bulk_read(Thread* thread, uint32_t offset, uint32_t bytes, Site site);
// Grids run one at a time: the detector's state is one.
void race_lock();
void race_unlock();
#else
struct SyncClock {};
inline void race_begin_launch() {}
inline void race_begin_block(Block*) {}
inline void race_block_barrier(Block*) {}
inline void race_warp_barrier(Warp*, uint32_t) {}
inline void race_shared_read(Thread*, uint32_t, uint32_t, const Site&) {}
inline void race_copy_issued(Thread*, uint32_t, uint32_t, const Site&) {}
inline void race_early_read(Thread*, const void*, uint32_t, const Site&) {}
inline void race_copy_landed(Thread*, uint32_t, uint32_t, const void*, uint32_t, uint32_t,
                             const Site&) {}
inline void race_global_read(Thread*, const void*, uint32_t, const Site&) {}
inline void race_global_write(Thread*, const void*, uint32_t, const Site&) {}
inline void race_shared_write(Thread*, uint32_t, uint32_t, const Site&) {}
inline uint32_t race_now(Thread*) { return 0; }
inline void race_release(Thread*, SyncClock*) {}
inline void race_acquire(Thread*, const SyncClock&) {}
inline bool race_is_ordered_after(Thread*, uint32_t, const SyncClock&) { return true; }
inline void race_join(SyncClock*, const SyncClock&) {}
inline void race_complete(SyncClock*, AsyncActor) {}
inline void race_observe(Thread*, AsyncActor) {}
inline void race_proxy_fence(Thread*) {}
inline void race_async_read(Thread*, AsyncActor, uint32_t, uint32_t, const Site&) {}
inline void race_async_write(Thread*, AsyncActor, uint32_t, uint32_t, const Site&) {}
inline void race_async_landed(Thread*, AsyncActor, uint32_t, uint32_t, const Site&) {}
inline void race_bulk_read(Thread*, uint32_t, uint32_t, const Site&) {}
inline void race_lock() {}
inline void race_unlock() {}
#endif

}  // namespace simt::detail
