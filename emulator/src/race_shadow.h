// What the race detector remembers of memory. A cell stands for a granule of 16 bytes, or 8, 4, 2,
// 1 as soon as an access of its chunk is smaller or less aligned.
//
// Order within a block has two levels, and so have the stamps of accesses:
//   epoch   counts block barriers, over all blocks and launches: an earlier epoch of the same block
//           is ordered before this one
//   clock   of whoever made the access, a column of race_clocks.h. Within an epoch only threads of
//           one warp can be ordered, unless the block is cross
// That is all that orders accesses: with it, the sets below lose no reader.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt::detail {

// The columns that accessed a cell in one epoch. "Warp" means 32 successive columns. In a block that
// is not cross two warps of the same epoch are never ordered, so details matter only while a single
// warp is in the set; in a cross block each warp has its own.
struct AccessSet {
  uint64_t warps = 0;
  uint32_t epoch = 0;
  uint32_t clock = 0;         // of the first column
  uint32_t more = 0;          // 1 + index of the clocks of all lanes, once there are two
  uint32_t other_launch = 0;  // the launch in which an earlier block accessed the cell
  int32_t where = 0;          // the latest access, relative to the kernel's entry
  uint16_t column = 0;        // the first
};

struct Cell {
  uint32_t write_epoch = 0;  // 0: never written
  uint32_t write_clock = 0;
  uint16_t write_column = 0;
  bool in_flight = false;
  int32_t write_where = 0;
  AccessSet reads;
  AccessSet atomics;
};

constexpr unsigned kChunkShift = 10;
constexpr size_t kChunkBytes = size_t{1} << kChunkShift;

struct Chunk {
  uintptr_t number = 0;  // address >> kChunkShift, plus 1 so that 0 is none
  Cell* cells = nullptr;
  unsigned shift = 4;  // log2 of the granule
};

struct LaneClocks {
  uint32_t clock[32];  // 0: this lane did not access the cell
  uint32_t warp;
  uint32_t next;  // 1 + index of another warp's, or 0
};

// Lane clocks of the sets: all of them are void at the next epoch (in a cross block: at the next
// block).
class ClockPool {
 public:
  void clear() { used_ = free_ = 0; }
  uint32_t add(uint32_t warp);  // 1 + index of a zeroed entry
  LaneClocks* at(uint32_t more) { return &entries_[more - 1]; }
  uint32_t copy(uint32_t more);  // of all entries from there on
  void free(uint32_t more);      // likewise

 private:
  LaneClocks* entries_ = nullptr;
  size_t used_ = 0;
  size_t capacity_ = 0;
  uint32_t free_ = 0;  // 1 + index of the first free entry, or 0
};

// Chunks by address. Grows; forget() frees all.
class ChunkTable {
 public:
  Chunk* find_or_add(uintptr_t address);
  void forget();
  size_t cell_bytes() const { return cell_bytes_; }
  // Makes the chunk's cells at most 1 << shift bytes each. Lists of epochs before `first_epoch` are
  // void: their entries belong to others, or to nobody.
  void refine(Chunk* chunk, unsigned shift, ClockPool* clocks, uint32_t first_epoch);

 private:
  void grow();

  Chunk* chunks_ = nullptr;
  size_t capacity_ = 0;
  size_t used_ = 0;
  size_t cell_bytes_ = 0;
  Chunk* last_ = nullptr;
};

}  // namespace simt::detail
