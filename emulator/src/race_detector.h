// What the parts of the race detector share: its state, an access under judgement, and the verdicts.
//   race.cc         accesses of the kernel's own code and of instructions; blocks, launches
//   race_async.cc   order between warps; what hardware does to shared memory on its own
//   race_judge.cc   whether an access is a defect
//   race_shadow.cc  what is remembered of memory; race_clocks.cc: of threads
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "block.h"
#include "race_access.h"
#include "race_clocks.h"
#include "race_shadow.h"

namespace simt::detail {

struct Range {
  uintptr_t start;
  uintptr_t end;
  bool writable;
};

struct Detector {
  std::mutex mutex;
  uint32_t epoch = 1;
  uint32_t block_epoch = 1;            // the first of the running block
  uint32_t launch_epoch = 1;           // the first of the running launch
  uint32_t previous_launch_epoch = 1;  // of the launch before it
  uint32_t cross_epoch = 0;            // in which the running block became cross
  Clocks clocks;
  ChunkTable shared;
  ChunkTable global;
  ClockPool pool;
  Range allocations[16];  // found lately
  size_t allocation_count = 0;
  size_t next_allocation = 0;
  Range modules[512];  // code and data of the process
  size_t module_count = 0;
  bool modules_known = false;

  // Of sets whose lists in the pool are valid.
  uint32_t first_listed_epoch() const { return clocks.is_cross() ? cross_epoch : epoch; }
};

Detector& detector();

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

// Stops the kernel. The detail goes on after "the thread reads 4 bytes of …".
[[noreturn]] void report(const Access& access, DefectKind kind, const std::string& detail);

// Fails unless the access is ordered after the cell's writer (a read needs one, in shared memory), or
// after everybody in the set.
void check_writer(Detector& state, const Access& access, const Cell& cell);
void check_set(Detector& state, const Access& access, const AccessSet& set, const char* what);
// What hardware does on its own at the thread's command comes after what the thread is ordered
// after, and sees what threads did by ordinary accesses only behind a fence.proxy.async.
void check_fenced(Detector& state, const Access& access, const Cell& cell);
// All of it for an ordinary access, which is then remembered.
void check_cell(Detector& state, const Access& access, Cell* cell, bool in_flight);
void add_to_set(Detector& state, const Access& access, AccessSet* set, uint32_t column,
                uint32_t clock);
void stamp_write(Detector& state, const Access& access, Cell* cell, uint32_t column, uint32_t clock,
                 bool in_flight);

// Calls use(cell) for every cell of the bytes, which may span chunks.
template <typename Use>
void for_cells(Detector& state, ChunkTable* table, uintptr_t address, size_t bytes, Use use) {
  while (bytes > 0) {
    const size_t start = address & (kChunkBytes - 1);
    const size_t part = bytes < kChunkBytes - start ? bytes : kChunkBytes - start;
    Chunk* chunk = table->find_or_add(address);
    const unsigned shift = static_cast<unsigned>(__builtin_ctzl(start | part | 16));
    if (shift < chunk->shift) table->refine(chunk, shift, &state.pool, state.first_listed_epoch());
    const size_t last = (start + part - 1) >> chunk->shift;
    for (size_t i = start >> chunk->shift; i <= last; ++i) use(&chunk->cells[i]);
    address += part;
    bytes -= part;
  }
}

}  // namespace simt::detail
