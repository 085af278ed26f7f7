// The race detector. Kernels of this flavour are compiled with -fsanitize=thread but not linked
// with its runtime: race_hooks.cc takes the calls, this file judges them. An access is a defect if
// it touches the same bytes as another that is not ordered with it and one of them writes (atomics
// among themselves excepted), if it reads shared memory nobody wrote, or if it is in no allocation.
// Blocks of one launch are never ordered. Launches always are: streams are not told apart.
#include "race.h"

#include <link.h>

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "block.h"
#include "race_access.h"
#include "race_shadow.h"
#include "simt/memory.h"
#include "symbols.h"

namespace simt::detail {
namespace {

constexpr size_t kMostCellBytes = size_t{1} << 29;  // beyond it a new launch starts afresh

struct WarpClocks {
  uint32_t seen[32][32];  // [lane][other]: the other's clock as far as the lane is ordered after it
};

struct Range {
  uintptr_t start;
  uintptr_t end;
  bool writable;
};

struct Detector {
  std::mutex mutex;
  uint32_t epoch = 1;
  uint32_t block_epoch = 1;   // the first of the running block
  uint32_t launch_epoch = 1;  // the first of the running launch
  WarpClocks warps[32];
  ChunkTable shared;
  ChunkTable global;
  ClockPool clocks;
  Range allocations[16];  // found lately
  size_t allocation_count = 0;
  size_t next_allocation = 0;
  Range modules[512];  // code and data of the process
  size_t module_count = 0;
  bool modules_known = false;
};

// Never destroyed: kernels may still end while the process does.
Detector& detector() {
  static Detector* const kept = new Detector;
  return *kept;
}

// Who accesses what, while a check runs.
struct Access {
  Thread* thread;
  AccessType type;
  const void* pc;  // null: an operation of ours, at the site
  Site site;
  uintptr_t address;
  uint32_t bytes;
  bool shared;
};

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

std::string thread_name(const Access& access, uint32_t thread) {
  const uint3 index = access.thread->block->thread(thread)->thread_index;
  return "thread (" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

// Whether an access of the running block's `thread`, stamped like this, comes before `current`.
bool ordered(const Detector& state, const Thread* current, uint32_t epoch, uint32_t thread,
             uint32_t clock) {
  if (epoch < state.epoch) return true;
  if (thread == current->index) return true;
  return thread / 32 == current->index / 32 &&
         state.warps[thread / 32].seen[current->lane][thread % 32] >= clock;
}

enum class Stamp { kOld, kOtherBlock, kThisBlock };

// Shared memory starts anew with every block.
Stamp age(const Detector& state, uint32_t epoch, bool shared) {
  if (epoch >= state.block_epoch) return Stamp::kThisBlock;
  return !shared && epoch >= state.launch_epoch ? Stamp::kOtherBlock : Stamp::kOld;
}

// Fails if someone in the set is not ordered before the access.
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
  const uint32_t others = set.warps & ~(1u << warp);
  if (others != 0) {
    report(access, DefectKind::kRace,
           std::string(", which warp ") + std::to_string(__builtin_ctz(others)) + " " + what +
               " with no barrier between" + at_place(access, set.where));
  }
  const uint32_t* seen = state.warps[warp].seen[thread->lane];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const uint32_t clock =
        set.more != 0 ? state.clocks.at(set.more)->clock[lane] : (lane == set.lane ? set.clock : 0);
    if (lane == thread->lane || clock <= seen[lane]) continue;
    report(access, DefectKind::kRace,
           ", which " + thread_name(access, warp * 32 + lane) + " of the same warp " + what +
               " with no __syncwarp between" + at_place(access, set.where));
  }
}

void add_to_set(Detector& state, const Access& access, AccessSet* set) {
  const Thread* thread = access.thread;
  const uint32_t warp_bit = 1u << thread->index / 32;
  const uint32_t clock = state.warps[thread->index / 32].seen[thread->lane][thread->lane];
  set->where = where_of(access);
  if (set->epoch != state.epoch) {
    if (age(state, set->epoch, access.shared) == Stamp::kOtherBlock) {
      set->other_launch = state.launch_epoch;
    }
    set->epoch = state.epoch;
    set->warps = warp_bit;
    set->lane = static_cast<uint8_t>(thread->lane);
    set->clock = clock;
    set->more = 0;
    return;
  }
  if (set->warps != warp_bit) {
    set->warps |= warp_bit;
  } else if (set->more != 0) {
    state.clocks.at(set->more)->clock[thread->lane] = clock;
  } else if (set->lane == thread->lane) {
    set->clock = clock;
  } else {
    set->more = state.clocks.add();
    LaneClocks* clocks = state.clocks.at(set->more);
    clocks->clock[set->lane] = set->clock;
    clocks->clock[thread->lane] = clock;
  }
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
           ", where an asynchronous copy of " + thread_name(access, cell.write_thread) +
               " is in flight");
  }
  if (!ordered(state, access.thread, cell.write_epoch, cell.write_thread, cell.write_clock)) {
    report(access, DefectKind::kRace,
           ", which " + thread_name(access, cell.write_thread) + " wrote with no barrier between" +
               at_place(access, cell.write_where));
  }
}

void stamp_write(Detector& state, const Access& access, Cell* cell, bool in_flight) {
  const Thread* thread = access.thread;
  cell->write_epoch = state.epoch;
  cell->write_clock = state.warps[thread->index / 32].seen[thread->lane][thread->lane];
  cell->write_thread = static_cast<uint16_t>(thread->index);
  cell->write_where = where_of(access);
  cell->in_flight = in_flight;
  // All earlier accesses are ordered before this one, and later ones are checked against it.
  cell->reads = AccessSet();
  cell->atomics = AccessSet();
}

void check_cell(Detector& state, const Access& access, Cell* cell, bool in_flight) {
  check_writer(state, access, *cell);
  switch (access.type) {
    case AccessType::kRead:
      check_set(state, access, cell->atomics, "updated atomically");
      add_to_set(state, access, &cell->reads);
      break;
    case AccessType::kWrite:
      check_set(state, access, cell->reads, "read");
      check_set(state, access, cell->atomics, "updated atomically");
      stamp_write(state, access, cell, in_flight);
      break;
    case AccessType::kAtomic:
      check_set(state, access, cell->reads, "read");
      add_to_set(state, access, &cell->atomics);
      break;
  }
}

// Calls use(cell) for every cell of the bytes, which may span chunks.
template <typename Use>
void for_cells(Detector& state, ChunkTable* table, uintptr_t address, size_t bytes, Use use) {
  while (bytes > 0) {
    const size_t start = address & (kChunkBytes - 1);
    const size_t part = bytes < kChunkBytes - start ? bytes : kChunkBytes - start;
    Chunk* chunk = table->find_or_add(address);
    const unsigned shift = static_cast<unsigned>(__builtin_ctzl(start | part | 16));
    if (shift < chunk->shift) table->refine(chunk, shift, &state.clocks);
    const size_t last = (start + part - 1) >> chunk->shift;
    for (size_t i = start >> chunk->shift; i <= last; ++i) use(&chunk->cells[i]);
    address += part;
    bytes -= part;
  }
}

int add_module(dl_phdr_info* info, size_t, void* data) {
  Detector& state = *static_cast<Detector*>(data);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || state.module_count == 512) continue;
    const uintptr_t start = info->dlpi_addr + segment.p_vaddr;
    state.modules[state.module_count++] = {start, start + segment.p_memsz,
                                           (segment.p_flags & PF_W) != 0};
  }
  return 0;
}

bool in_allocation(Detector& state, uintptr_t address, size_t bytes) {
  for (size_t i = 0; i < state.allocation_count; ++i) {
    const Range& range = state.allocations[i];
    if (address >= range.start && address + bytes <= range.end) return true;
  }
  const void* start = nullptr;
  size_t size = 0;
  if (!find_allocation(reinterpret_cast<const void*>(address), &start, &size)) return false;
  const uintptr_t first = reinterpret_cast<uintptr_t>(start);
  if (address + bytes > first + size) return false;
  state.allocations[state.next_allocation] = {first, first + size, true};
  state.next_allocation = (state.next_allocation + 1) % 16;
  if (state.allocation_count < 16) ++state.allocation_count;
  return true;
}

// Constants of the program: tables, literals. Nothing else of the host may be read by kernels.
bool in_constants(Detector& state, uintptr_t address, size_t bytes) {
  if (!state.modules_known) {
    state.module_count = 0;
    dl_iterate_phdr(add_module, &state);
    state.modules_known = true;
  }
  for (size_t i = 0; i < state.module_count; ++i) {
    if (address >= state.modules[i].start && address + bytes <= state.modules[i].end) return true;
  }
  return false;
}

void global_access(Detector& state, const Access& access) {
  if (!in_allocation(state, access.address, access.bytes)) {
    if (access.type == AccessType::kRead && in_constants(state, access.address, access.bytes)) {
      return;
    }
    char address[32];
    std::snprintf(address, sizeof address, "%p", reinterpret_cast<void*>(access.address));
    report(access, DefectKind::kOutOfBounds,
           std::string(" at ") + address + ", which is not all inside of an allocation");
  }
  for_cells(state, &state.global, access.address, access.bytes,
            [&](Cell* cell) { check_cell(state, access, cell, false); });
}

void shared_access(Detector& state, const Access& access, bool in_flight) {
  for_cells(state, &state.shared, access.address, access.bytes,
            [&](Cell* cell) { check_cell(state, access, cell, in_flight); });
}

}  // namespace

void race_lock() { detector().mutex.lock(); }
void race_unlock() { detector().mutex.unlock(); }

void race_begin_launch() {
  Detector& state = detector();
  state.launch_epoch = ++state.epoch;
  state.allocation_count = state.next_allocation = 0;
  state.modules_known = false;
  if (state.global.cell_bytes() > kMostCellBytes) state.global.forget();
}

void race_begin_block(Block* block) {
  static_cast<void>(block);
  Detector& state = detector();
  state.block_epoch = ++state.epoch;
  state.clocks.clear();
  std::memset(state.warps, 0, sizeof state.warps);
  for (WarpClocks& warp : state.warps) {
    for (int lane = 0; lane < 32; ++lane) warp.seen[lane][lane] = 1;
  }
}

void race_block_barrier(Block* block) {
  static_cast<void>(block);
  Detector& state = detector();
  ++state.epoch;
  state.clocks.clear();
}

void race_warp_barrier(Warp* warp, uint32_t mask) {
  WarpClocks& clocks = detector().warps[warp->index];
  uint32_t merged[32] = {};
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const uint32_t* seen = clocks.seen[__builtin_ctz(left)];
    for (int i = 0; i < 32; ++i) merged[i] = merged[i] < seen[i] ? seen[i] : merged[i];
  }
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = __builtin_ctz(left);
    std::memcpy(clocks.seen[lane], merged, sizeof merged);
    ++clocks.seen[lane][lane];
  }
}

void race_shared_read(Thread* thread, uint32_t offset, uint32_t bytes, Site site) {
  shared_access(detector(), {thread, AccessType::kRead, nullptr, site, offset, bytes, true}, false);
}

void race_copy_issued(Thread* thread, uint32_t offset, uint32_t bytes, Site site) {
  shared_access(detector(), {thread, AccessType::kWrite, nullptr, site, offset, bytes, true}, true);
}

void race_copy_landed(Thread* thread, uint32_t offset, uint32_t bytes, const void* source,
                      uint32_t source_bytes, Site site) {
  Detector& state = detector();
  if (source_bytes > 0) race_global_read(thread, source, source_bytes, site);
  const Access access = {thread, AccessType::kWrite, nullptr, site, offset, bytes, true};
  for_cells(state, &state.shared, offset, bytes,
            [&](Cell* cell) { stamp_write(state, access, cell, false); });
}

void race_global_read(Thread* thread, const void* address, uint32_t bytes, Site site) {
  global_access(detector(), {thread, AccessType::kRead, nullptr, site,
                             reinterpret_cast<uintptr_t>(address), bytes, false});
}

void race_kernel_access(Thread* thread, AccessType type, const void* pointer, size_t bytes,
                        bool aligned, const void* pc) {
  if (bytes == 0) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  // Its own stack, and the built-in variables.
  if (address - reinterpret_cast<uintptr_t>(thread->fiber.stack) < thread->fiber.stack_bytes)
    return;
  if (address - reinterpret_cast<uintptr_t>(static_cast<ThreadView*>(thread)) <
      sizeof(ThreadView)) {
    return;
  }
  EngineScope scope(thread);
  Block* block = thread->block;
  block->check_time(thread);
  const bool shared = block->is_shared(pointer);
  Access access = {thread, type, pc, Site(), address, static_cast<uint32_t>(bytes), shared};
  if (aligned && address % (bytes < 8 ? bytes : 8) != 0) {
    report(access, DefectKind::kMisaligned, " at an address that is no multiple of their size");
  }
  const bool store = type != AccessType::kRead;
  const uint32_t counted = bytes < 255 ? static_cast<uint32_t>(bytes) : 255;
  if (shared) {
    access.address = address - reinterpret_cast<uintptr_t>(block->arena());
    if (!block->is_allocated(access.address, bytes)) {
      report(access, DefectKind::kOutOfBounds, ", which is not all inside of an array");
    }
    shared_access(detector(), access, false);
    block->record_access(thread, store ? AccessKind::kSharedStore : AccessKind::kSharedLoad, pc, 0,
                         access.address, counted, 0, 0);
    return;
  }
  global_access(detector(), access);
  if (!in_allocation(detector(), address, bytes)) return;  // a constant
  block->record_access(thread, store ? AccessKind::kGlobalStore : AccessKind::kGlobalLoad, pc, 0,
                       address, counted, 0, 0);
}

}  // namespace simt::detail
