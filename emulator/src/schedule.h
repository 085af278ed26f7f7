// Which thread of a block runs next. Ready threads are bits: one word of lanes per warp and one
// word of warps, so a choice costs a few instructions.
#pragma once

#include <cstdint>
#include <vector>

#include "simt/engine.h"

namespace simt::detail {

// A small random generator (xorshift64*): the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed = 1) { reset(seed); }
  void reset(uint64_t seed);
  uint64_t next();
  uint32_t below(uint32_t bound) {
    return static_cast<uint32_t>((next() >> 32) * static_cast<uint64_t>(bound) >> 32);
  }

 private:
  uint64_t state_ = 1;
};

class ReadySet {
 public:
  // Nobody is ready. The order of a random or skewed schedule comes from the seed.
  void reset(Schedule schedule, unsigned warps, uint64_t seed);

  void add(unsigned warp, uint32_t lanes) {
    next_[warp] |= lanes;
    ranks_ |= 1u << rank_[warp];
  }

  // Takes a ready thread out: warp * 32 + lane, or -1 if there is none.
  int take();

  // Whether the last lane to complete a collective runs on at once.
  bool runs_on() const { return schedule_ != Schedule::kRandom; }

 private:
  unsigned choose_rank();

  Schedule schedule_ = Schedule::kForward;
  Random random_;
  uint32_t ranks_ = 0;       // warps with ready lanes, by rank
  uint32_t ready_[32] = {};  // lanes of the current turn
  uint32_t next_[32] = {};   // lanes of the next one
  uint8_t rank_[32] = {};    // of a warp
  uint8_t warp_[32] = {};    // at a rank
  unsigned current_ = 0;     // rank whose turn it is
  bool from_top_ = false;    // lanes in falling order
  uint32_t streak_ = 0;      // choices in a row that went to the same rank, others waiting
};

// The order in which a grid's blocks run.
std::vector<uint64_t> block_order(Schedule schedule, uint64_t blocks, uint64_t seed);

}  // namespace simt::detail
