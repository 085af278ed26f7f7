// The race detector. Kernels of this flavour are compiled with -fsanitize=thread but not linked
// with its runtime: race_hooks.cc takes the calls, this file finds what they touch, race_judge.cc
// judges. An access outside of every allocation is a defect as well.
#include "race.h"

#include <link.h>

#include <cstring>

#include "race_detector.h"
#include "simt/memory.h"

namespace simt::detail {
namespace {

constexpr size_t kMostCellBytes = size_t{1} << 29;  // beyond it a new launch starts afresh

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

// An early launch, before its thread has waited for the launch before.
bool is_early(const Access& access) {
  return access.thread->block->launch().early && !access.thread->has_waited;
}
void check_early(const Detector& state, const Access& access, const Cell& cell) {
  if (access.type != AccessType::kRead) {
    report(access, DefectKind::kDependency, " before it has waited for the launch before");
  }
  const auto is_recent = [&](uint32_t epoch) {
    return epoch >= state.previous_launch_epoch && epoch < state.launch_epoch;
  };
  if (is_recent(cell.write_epoch) || is_recent(cell.atomics.epoch)) {
    report(access, DefectKind::kDependency,
           ", which the launch before wrote, before it has waited for it");
  }
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
  const bool early = is_early(access);
  for_cells(state, &state.global, access.address, access.bytes, [&](Cell* cell) {
    if (early) check_early(state, access, *cell);
    check_cell(state, access, cell, false);
  });
}

void shared_access(Detector& state, const Access& access, bool in_flight) {
  for_cells(state, &state.shared, access.address, access.bytes,
            [&](Cell* cell) { check_cell(state, access, cell, in_flight); });
}

}  // namespace

// Never destroyed: kernels may still end while the process does.
Detector& detector() {
  static Detector* const kept = new Detector;
  return *kept;
}

void race_lock() { detector().mutex.lock(); }
void race_unlock() { detector().mutex.unlock(); }

void race_begin_launch() {
  Detector& state = detector();
  state.previous_launch_epoch = state.launch_epoch;
  state.launch_epoch = ++state.epoch;
  state.allocation_count = state.next_allocation = 0;
  state.modules_known = false;
  if (state.global.cell_bytes() > kMostCellBytes) state.global.forget();
}

void race_begin_block(Block* block) {
  Detector& state = detector();
  state.block_epoch = ++state.epoch;
  state.pool.clear();
  state.clocks.begin_block(block->thread_count());
}

void race_block_barrier(Block* block) {
  static_cast<void>(block);
  Detector& state = detector();
  ++state.epoch;
  if (state.clocks.is_cross()) {
    state.clocks.meet_block();
  } else {
    state.pool.clear();
  }
}

void race_warp_barrier(Warp* warp, uint32_t mask) {
  detector().clocks.meet_warp(warp->index * 32, mask);
}

void race_shared_read(Thread* thread, uint32_t offset, uint32_t bytes, Site site) {
  shared_access(detector(), {thread, AccessType::kRead, nullptr, site, offset, bytes, true}, false);
}

void race_copy_issued(Thread* thread, uint32_t offset, uint32_t bytes, Site site) {
  shared_access(detector(), {thread, AccessType::kWrite, nullptr, site, offset, bytes, true}, true);
}

void race_early_read(Thread* thread, const void* address, uint32_t bytes, Site site) {
  Detector& state = detector();
  const Access access = {
      thread, AccessType::kRead, nullptr, site, reinterpret_cast<uintptr_t>(address), bytes, false};
  if (!is_early(access)) return;
  for_cells(state, &state.global, access.address, bytes,
            [&](Cell* cell) { check_early(state, access, *cell); });
}

void race_copy_landed(Thread* thread, uint32_t offset, uint32_t bytes, const void* source,
                      uint32_t source_bytes, uint32_t clock, Site site) {
  Detector& state = detector();
  if (source_bytes > 0) race_global_read(thread, source, source_bytes, site);
  const Access access = {thread, AccessType::kWrite, nullptr, site, offset, bytes, true};
  if (clock == 0) clock = state.clocks.now(thread->index);
  for_cells(state, &state.shared, offset, bytes,
            [&](Cell* cell) { stamp_write(state, access, cell, thread->index, clock, false); });
}

void race_global_read(Thread* thread, const void* address, uint32_t bytes, Site site) {
  global_access(detector(), {thread, AccessType::kRead, nullptr, site,
                             reinterpret_cast<uintptr_t>(address), bytes, false});
}

void race_global_write(Thread* thread, const void* address, uint32_t bytes, Site site) {
  global_access(detector(), {thread, AccessType::kWrite, nullptr, site,
                             reinterpret_cast<uintptr_t>(address), bytes, false});
}

void race_shared_write(Thread* thread, uint32_t offset, uint32_t bytes, Site site) {
  shared_access(detector(), {thread, AccessType::kWrite, nullptr, site, offset, bytes, true},
                false);
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
