// What the engine tells the race detector. In the other flavours there is none and nothing happens.
#pragma once

#include <cstdint>

namespace simt::detail {

class Block;
struct Thread;
struct Warp;
struct Site;

#if defined(SIMT_RACE)
void race_begin_launch();
void race_begin_block(Block* block);
void race_block_barrier(Block* block);
void race_warp_barrier(Warp* warp, uint32_t mask);
void race_shared_read(Thread* thread, uint32_t offset, uint32_t bytes, Site site);
void race_copy_issued(Thread* thread, uint32_t offset, uint32_t bytes, Site site);
void race_copy_landed(Thread* thread, uint32_t offset, uint32_t bytes, const void* source,
                      uint32_t source_bytes, Site site);
void race_global_read(Thread* thread, const void* address, uint32_t bytes, Site site);
// Grids run one at a time: the detector's state is one.
void race_lock();
void race_unlock();
#else
inline void race_begin_launch() {}
inline void race_begin_block(Block*) {}
inline void race_block_barrier(Block*) {}
inline void race_warp_barrier(Warp*, uint32_t) {}
inline void race_shared_read(Thread*, uint32_t, uint32_t, const Site&) {}
inline void race_copy_issued(Thread*, uint32_t, uint32_t, const Site&) {}
inline void race_copy_landed(Thread*, uint32_t, uint32_t, const void*, uint32_t, const Site&) {}
inline void race_global_read(Thread*, const void*, uint32_t, const Site&) {}
inline void race_lock() {}
inline void race_unlock() {}
#endif

}  // namespace simt::detail
