// The mbarriers of a block, and the bulk copies that they count. A barrier's true state is kept
// here; its eight bytes of shared memory hold a mark that must stay as it is.
//
// A phase is complete when all its arrivals were made and all its bytes have landed. Copies land
// only when a thread waits for their barrier: as late as the hardware may do it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "block.h"
#include "race.h"
#include "tensor_map.h"

namespace simt::detail {

// A bulk copy into shared memory under way: a box of a tensor, or successive bytes.
struct BulkLoad {
  uint32_t offset = 0;  // in the arena
  uint32_t bytes = 0;
  const void* source = nullptr;  // of successive bytes; null: a box
  TensorMap map;
  int32_t coordinates[kMostRank] = {};
  Thread* thread = nullptr;
  Site site;
};

// "Arrive when my copies so far have landed" (cp.async.mbarrier.arrive.noinc).
struct DeferredArrival {
  Thread* thread;
  uint64_t copies;  // how many of the thread's, from its start
  uint32_t clock;
};

struct Mbarrier {
  uint32_t offset;
  uint32_t index;  // of its column in the race detector
  uint32_t count;  // arrivals of each phase
  uint32_t phase = 0;
  uint32_t first_clock;  // of the column: an earlier barrier may have had it
  int64_t arrivals_left;
  int64_t bytes_left = 0;  // expected and not landed; below zero: landed and not expected
  bool visible_to_copies = false;
  uint32_t init_thread;
  std::vector<BulkLoad> loads;
  std::vector<DeferredArrival> deferred;
  SyncClock init;
  SyncClock arriving;   // what this phase's arrivals are ordered after
  SyncClock completed;  // of all phases so far
  Site site;            // of its init
};

class Mbarriers {
 public:
  void clear();
  void init(Thread* thread, uint32_t address, uint32_t count, Site site);
  void invalidate(Thread* thread, uint32_t address, Site site);
  // fence.mbarrier_init or fence.proxy.async: copies may name the barriers that the thread knows.
  void publish(Thread* thread);
  void arrive(Thread* thread, uint32_t address, uint32_t expected_bytes, bool arrives,
              const char* operation, Site site);
  void arrive_after_copies(Thread* thread, uint32_t address, Site site);
  void issue(uint32_t address, const BulkLoad& load, const char* operation);
  void wait(Thread* thread, uint32_t address, uint32_t parity, Site site);
  // The last thread of the block has returned: no phase may be half done.
  void check_exit(Thread* thread) const;
  // Fails if a copy into these bytes is under way.
  void check_not_in_flight(Thread* thread, uint32_t offset, uint32_t bytes, const char* operation,
                           Site site) const;
  std::string describe(const Mbarrier& barrier, const Block& block) const;
  const Mbarrier* at_offset(uint32_t offset) const;

 private:
  Mbarrier* find(Thread* thread, uint32_t address, const char* operation, Site site);
  bool can_complete(const Mbarrier& barrier) const;
  void complete(Thread* thread, Mbarrier* barrier);
  void wake(Thread* thread, Mbarrier* barrier);

  std::vector<Mbarrier> barriers_;
  uint32_t next_clock_[kMostBarriers] = {};
};

// Lands the load's data, as seen by the race detector as well.
void land(Thread* waiter, const BulkLoad& load, AsyncActor actor);
// Lands the first `count` cp.async of the thread, as far as they are under way. `clock`:
// race_copy_landed's.
void land_copies(Thread* owner, uint64_t count, uint32_t clock);

}  // namespace simt::detail
