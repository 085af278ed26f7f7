// Whether an access is a defect: if it touches the same bytes as another that is not ordered with it
// and one of them writes (atomics among themselves excepted), or if it reads shared memory nobody
// wrote. Blocks of one launch are never ordered. Launches always are: streams are not told apart.
#include <cstdlib>

#include "race_detector.h"
#include "simt/memory.h"
#include "symbols.h"

namespace simt::detail {
namespace {

const char* verb(AccessType type) {
  switch (type) {
    case AccessType::kRead:
      return "reads";
    case AccessType::kWrite:
      return "writes";
    case AccessType::kAtomic:
      return "atomically updates";
  }
  return "";
}

int32_t where_of(const Access& access) {
  if (access.pc == nullptr) return 0;
  const auto distance = static_cast<const char*>(access.pc) -
                        static_cast<const char*>(access.thread->block->launch().function);
  return distance > INT32_MIN && distance < INT32_MAX ? static_cast<int32_t>(distance) : 0;
}

// The end of a sentence on an access that was remembered by its place.
std::string at_place(const Access& access, int32_t where) {
  if (where == 0) return "";
  const char* pc = static_cast<const char*>(access.thread->block->launch().function) + where;
  return " at " + describe_code(pc);
}

std::string memory_name(const Access& access) {
  if (!access.shared) {
    const void* start = nullptr;
    size_t bytes = 0;
    std::string text = "global memory";
    if (find_allocation(reinterpret_cast<const void*>(access.address), &start, &bytes)) {
      text += ", byte " + std::to_string(access.address - reinterpret_cast<uintptr_t>(start)) +
              " of an allocation of " + std::to_string(bytes);
    }
    return text;
  }
  return "shared memory, " + access.thread->block->describe_offset(access.address);
}

}  // namespace

[[noreturn]] void report(const Access& access, DefectKind kind, const std::string& detail) {
  std::string text = std::string("the thread ") + verb(access.type) + " " +
                     std::to_string(access.bytes) + " bytes of " + memory_name(access) + detail;
  Site site = access.site;
  if (access.pc != nullptr) {
    text += "\n  at " + describe_code(access.pc);
    site = source_site(access.pc);
  }
  access.thread->block->fail(access.thread, kind, std::move(text), site);
}

namespace {

std::string actor_name(const Access& access, uint32_t thread) {
  if (thread >= kGroupColumn) {
    return "a wgmma of warp group " + std::to_string(thread - kGroupColumn);
  }
  if (thread >= kBarrierColumn) return "an asynchronous copy";
  const uint3 index = access.thread->block->thread(thread)->thread_index;
  return "thread (" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

// Whether an access of the running block's `column`, stamped like this, comes before `current`.
bool ordered(const Detector& state, const Thread* current, uint32_t epoch, uint32_t column,
             uint32_t clock) {
  if (epoch < state.epoch) return true;
  if (column == current->index) return true;
  if (column / 32 != current->index / 32 && !state.clocks.is_cross()) return false;
  return state.clocks.seen(current->index, column) >= clock;
}

enum class Stamp { kOld, kOtherBlock, kThisBlock };

// Shared memory starts anew with every block.
Stamp age(const Detector& state, uint32_t epoch, bool shared) {
  if (epoch >= state.block_epoch) return Stamp::kThisBlock;
  return !shared && epoch >= state.launch_epoch ? Stamp::kOtherBlock : Stamp::kOld;
}

// Calls use(column, clock) for everybody in the set of whom details are known.
template <typename Use>
void for_columns(Detector& state, const AccessSet& set, Use use) {
  if (set.more == 0) return use(uint32_t{set.column}, set.clock);
  for (uint32_t more = set.more; more != 0; more = state.pool.at(more)->next) {
    const LaneClocks& entry = *state.pool.at(more);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      if (entry.clock[lane] != 0) use(entry.warp * 32 + lane, entry.clock[lane]);
    }
  }
}

}  // namespace

void check_set(Detector& state, const Access& access, const AccessSet& set, const char* what) {
  const Stamp stamp = age(state, set.epoch, access.shared);
  if (stamp == Stamp::kOtherBlock || (!access.shared && set.other_launch == state.launch_epoch)) {
    report(
        access, DefectKind::kRace,
        std::string(", which another block of the launch ") + what + at_place(access, set.where));
  }
  if (stamp == Stamp::kOld || set.epoch < state.epoch) return;
  const Thread* thread = access.thread;
  const unsigned warp = thread->index / 32;
  const uint64_t others = set.warps & ~(uint64_t{1} << warp);
  if (others != 0 && !state.clocks.is_cross()) {
    report(access, DefectKind::kRace,
           std::string(", which warp ") + std::to_string(__builtin_ctzll(others)) + " " + what +
               " with no barrier between" + at_place(access, set.where));
  }
  for_columns(state, set, [&](uint32_t column, uint32_t clock) {
    if (column == thread->index || clock <= state.clocks.seen(thread->index, column)) return;
    const bool same_warp = column / 32 == warp;
    report(access, DefectKind::kRace,
           ", which " + actor_name(access, column) + (same_warp ? " of the same warp " : " ") +
               what + (same_warp ? " with no __syncwarp between" : " with no barrier between") +
               at_place(access, set.where));
  });
}

namespace {

// The entry of the column's warp in the set's list; added if it has none.
LaneClocks* entry_of(Detector& state, AccessSet* set, uint32_t warp) {
  for (uint32_t more = set->more; more != 0; more = state.pool.at(more)->next) {
    if (state.pool.at(more)->warp == warp) return state.pool.at(more);
  }
  const uint32_t added = state.pool.add(warp);
  state.pool.at(added)->next = set->more;
  set->more = added;
  return state.pool.at(added);
}

void forget_set(Detector& state, AccessSet* set) {
  if (set->more != 0 && state.clocks.is_cross() && set->epoch >= state.cross_epoch) {
    state.pool.free(set->more);
  }
  *set = AccessSet();
}

}  // namespace

void add_to_set(Detector& state, const Access& access, AccessSet* set, uint32_t column,
                uint32_t clock) {
  const uint64_t warp_bit = uint64_t{1} << column / 32;
  if (set->epoch != state.epoch) {
    const bool other_block = age(state, set->epoch, access.shared) == Stamp::kOtherBlock;
    const uint32_t other_launch = other_block ? state.launch_epoch : set->other_launch;
    forget_set(state, set);
    set->other_launch = other_launch;
    set->epoch = state.epoch;
    set->warps = warp_bit;
    set->column = static_cast<uint16_t>(column);
    set->clock = clock;
  } else if (set->warps != warp_bit && !state.clocks.is_cross()) {
    set->warps |= warp_bit;
  } else if (set->more == 0 && set->column == column) {
    set->clock = clock;
  } else {
    set->warps |= warp_bit;
    if (set->more == 0)
      entry_of(state, set, set->column / 32)->clock[set->column % 32] = set->clock;
    entry_of(state, set, column / 32)->clock[column % 32] = clock;
  }
  set->where = where_of(access);
}

void check_writer(Detector& state, const Access& access, const Cell& cell) {
  const Stamp stamp = age(state, cell.write_epoch, access.shared);
  if (stamp == Stamp::kOld) {
    if (access.shared && access.type != AccessType::kWrite) {
      report(access, DefectKind::kUninitialised, ", which nobody has written");
    }
    return;
  }
  if (stamp == Stamp::kOtherBlock) {
    report(access, DefectKind::kRace,
           ", which another block of the launch wrote" + at_place(access, cell.write_where));
  }
  if (cell.in_flight) {
    report(access, DefectKind::kInFlight,
           ", where " +
               (cell.write_column < kThreadColumns ? "an asynchronous copy of " : std::string()) +
               actor_name(access, cell.write_column) + " is in flight");
  }
  if (!ordered(state, access.thread, cell.write_epoch, cell.write_column, cell.write_clock)) {
    report(access, DefectKind::kRace,
           ", which " + actor_name(access, cell.write_column) + " wrote with no barrier between" +
               at_place(access, cell.write_where));
  }
}

void stamp_write(Detector& state, const Access& access, Cell* cell, uint32_t column, uint32_t clock,
                 bool in_flight) {
  cell->write_epoch = state.epoch;
  cell->write_clock = clock;
  cell->write_column = static_cast<uint16_t>(column);
  cell->write_where = where_of(access);
  cell->in_flight = in_flight;
  // All earlier accesses are ordered before this one, and later ones are checked against it.
  forget_set(state, &cell->reads);
  forget_set(state, &cell->atomics);
}

void check_cell(Detector& state, const Access& access, Cell* cell, bool in_flight) {
  const uint32_t column = access.thread->index;
  const uint32_t clock = state.clocks.now(column);
  check_writer(state, access, *cell);
  switch (access.type) {
    case AccessType::kRead:
      check_set(state, access, cell->atomics, "updated atomically");
      add_to_set(state, access, &cell->reads, column, clock);
      break;
    case AccessType::kWrite:
      check_set(state, access, cell->reads, "read");
      check_set(state, access, cell->atomics, "updated atomically");
      stamp_write(state, access, cell, column, clock, in_flight);
      break;
    case AccessType::kAtomic:
      check_set(state, access, cell->reads, "read");
      add_to_set(state, access, &cell->atomics, column, clock);
      break;
  }
}

void check_fenced(Detector& state, const Access& access, const Cell& cell) {
  const uint32_t thread = access.thread->index;
  const auto check = [&](uint32_t column, uint32_t clock, const char* what, int32_t where) {
    if (column >= kThreadColumns || state.clocks.fenced(thread, column) >= clock) return;
    report(access, DefectKind::kRace,
           ", which " + actor_name(access, column) + " " + what +
               " by ordinary accesses with no fence.proxy.async between" + at_place(access, where));
  };
  if (cell.write_epoch >= state.block_epoch) {
    check(cell.write_column, cell.write_clock, "wrote", cell.write_where);
  }
  if (access.type != AccessType::kWrite) return;
  for (const AccessSet* set : {&cell.reads, &cell.atomics}) {
    if (set->epoch < state.cross_epoch) continue;
    for_columns(state, *set,
                [&](uint32_t column, uint32_t clock) { check(column, clock, "read", set->where); });
  }
}

}  // namespace simt::detail
