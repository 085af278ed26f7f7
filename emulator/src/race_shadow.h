// What the race detector remembers of memory. A cell stands for a granule of 16 bytes, or 8, 4, 2,
// 1 as soon as an access of its chunk is smaller or less aligned.
//
// Order within a block has two levels, and so have the stamps of accesses:
//   epoch   counts block barriers, over all blocks and launches: an earlier epoch of the same block
//           is ordered before this one
//   clock   of a lane, counts the warp barriers it took part in:
//           within an epoch only threads of one warp can be ordered,
//           by the warp's 32 x 32 vector clocks
// That is all that orders accesses: with it, the sets below lose no reader.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt::detail {

// The threads that accessed a cell in one epoch. Two warps of the same epoch are never ordered, so
// details matter only while a single warp is in the set.
struct AccessSet {
  uint32_t epoch = 0;
  uint32_t warps = 0;
  uint32_t clock = 0;         // of the first lane
  uint32_t more = 0;          // 1 + index of the clocks of all lanes, once there are two
  uint32_t other_launch = 0;  // the launch in which an earlier block accessed the cell
  int32_t where = 0;          // the latest access, relative to the kernel's entry
  uint8_t lane = 0;
};

struct Cell {
  uint32_t write_epoch = 0;  // 0: never written
  uint32_t write_clock = 0;
  uint16_t write_thread = 0;
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
};

// Lane clocks of one epoch: all of them are void at the next.
class ClockPool {
 public:
  void clear() { used_ = 0; }
  uint32_t add();  // 1 + index of a zeroed entry
  LaneClocks* at(uint32_t more) { return &entries_[more - 1]; }

 private:
  LaneClocks* entries_ = nullptr;
  size_t used_ = 0;
  size_t capacity_ = 0;
};

// Chunks by address. Grows; forget() frees all.
class ChunkTable {
 public:
  Chunk* find_or_add(uintptr_t address);
  void forget();
  size_t cell_bytes() const { return cell_bytes_; }
  // Makes the chunk's cells at most 1 << shift bytes each.
  void refine(Chunk* chunk, unsigned shift, ClockPool* clocks);

 private:
  void grow();

  Chunk* chunks_ = nullptr;
  size_t capacity_ = 0;
  size_t used_ = 0;
  size_t cell_bytes_ = 0;
  Chunk* last_ = nullptr;
};

}  // namespace simt::detail
