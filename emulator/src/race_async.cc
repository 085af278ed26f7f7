// Order between warps, and what hardware does to shared memory on its own.
#include "race.h"
#include "race_detector.h"

namespace simt::detail {
namespace {

constexpr uint32_t kNobody = kColumns;

Clocks& cross_clocks() {
  Detector& state = detector();
  if (!state.clocks.is_cross()) {
    state.cross_epoch = state.epoch;
    state.clocks.become_cross(state.epoch > state.block_epoch);
  }
  return state.clocks;
}

uint32_t column_of(AsyncActor actor) {
  return (actor.is_wgmma ? kGroupColumn : kBarrierColumn) + actor.index;
}

void async_access(Thread* thread, AccessType type, uint32_t column, uint32_t clock, uint32_t offset,
                  uint32_t bytes, Site site) {
  cross_clocks();
  Detector& state = detector();
  const Access access = {thread, type, nullptr, site, offset, bytes, true};
  for_cells(state, &state.shared, offset, bytes, [&](Cell* cell) {
    check_writer(state, access, *cell);
    if (type == AccessType::kWrite) {
      check_set(state, access, cell->reads, "read");
    }
    check_set(state, access, cell->atomics, "updated atomically");
    check_fenced(state, access, *cell);
    if (type == AccessType::kWrite) {
      stamp_write(state, access, cell, column, clock, true);
    } else if (column != kNobody) {
      add_to_set(state, access, &cell->reads, column, clock);
    }
  });
}

}  // namespace

uint32_t race_now(Thread* thread) { return cross_clocks().now(thread->index); }

void race_release(Thread* thread, SyncClock* clock) {
  cross_clocks().release(thread->index, clock);
}

void race_acquire(Thread* thread, const SyncClock& clock) {
  cross_clocks().acquire(thread->index, clock);
}

bool race_is_ordered_after(Thread* thread, uint32_t other, const SyncClock& clock) {
  return cross_clocks().seen(thread->index, other) >= clock.seen[other];
}

void race_join(SyncClock* to, const SyncClock& from) {
  to->seen.resize(kColumns);
  to->fenced.resize(kColumns);
  for (size_t i = 0; i < from.seen.size(); ++i) {
    if (to->seen[i] < from.seen[i]) to->seen[i] = from.seen[i];
    if (to->fenced[i] < from.fenced[i]) to->fenced[i] = from.fenced[i];
  }
}

void race_complete(SyncClock* clock, AsyncActor actor) {
  clock->seen.resize(kColumns);
  clock->fenced.resize(kColumns);
  clock->seen[column_of(actor)] = actor.clock;
}

void race_observe(Thread* thread, AsyncActor actor) {
  cross_clocks().observe(thread->index, column_of(actor), actor.clock);
}

void race_proxy_fence(Thread* thread) { cross_clocks().fence(thread->index); }

void race_async_read(Thread* thread, AsyncActor actor, uint32_t offset, uint32_t bytes, Site site) {
  async_access(thread, AccessType::kRead, column_of(actor), actor.clock, offset, bytes, site);
}

void race_async_write(Thread* thread, AsyncActor actor, uint32_t offset, uint32_t bytes,
                      Site site) {
  async_access(thread, AccessType::kWrite, column_of(actor), actor.clock, offset, bytes, site);
}

void race_async_landed(Thread* thread, AsyncActor actor, uint32_t offset, uint32_t bytes,
                       Site site) {
  Detector& state = detector();
  const Access access = {thread, AccessType::kWrite, nullptr, site, offset, bytes, true};
  for_cells(state, &state.shared, offset, bytes, [&](Cell* cell) {
    stamp_write(state, access, cell, column_of(actor), actor.clock, false);
  });
}

void race_bulk_read(Thread* thread, uint32_t offset, uint32_t bytes, Site site) {
  async_access(thread, AccessType::kRead, kNobody, 0, offset, bytes, site);
}

}  // namespace simt::detail
