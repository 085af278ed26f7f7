// What lets warps of one block play different parts: named barriers, and registers that move from one
// warp group to another.
#pragma once

#include <cstdint>

#include "block.h"
#include "race.h"

namespace simt::detail {

struct NamedBarrier {
  uint32_t expected = 0;  // threads; 0: nobody is there
  uint32_t arrived = 0;
  uint32_t round = 0;
  bool has_sync_site = false;
  Site sync_site;  // of those that wait
  SyncClock clock;
};

class Roles {
 public:
  void clear(uint32_t threads);
  void arrive(Thread* thread, uint32_t id, uint32_t threads, bool waits, Site site);
  // By a whole warp; raising parks until there are enough.
  void lower_registers(Warp* warp, uint32_t registers, Site site);
  void raise_registers(Thread* thread, uint32_t registers, Site site);
  uint32_t registers_of(const Warp* warp) const { return registers_[warp->index]; }
  uint32_t free_registers() const { return free_; }

 private:
  NamedBarrier barriers_[16];
  bool used_ = false;
  uint32_t registers_[32] = {};  // of each thread of the warp
  uint32_t free_ = 0;            // of the block's, given away and not taken
};

}  // namespace simt::detail
