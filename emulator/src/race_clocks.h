// How far the threads of a block are ordered after each other: a vector clock per thread.
//
// A column stands for somebody who accesses memory: a thread, or hardware that works on its own. An
// entry of a thread's row is the column's clock as far as the thread is ordered after it.
//   0 … 1023           threads; the clock counts what they took part in: barriers, releases, fences
//   kBarrierColumn …   bulk copies that an mbarrier counts; the clock is 1 + the barrier's phase
//   kGroupColumn …     wgmmas of a warp group; the clock is 1 + the number of the committed group
//
// Most kernels order warps by __syncthreads alone, which is a new epoch (race_shadow.h), so only the
// columns of the own warp matter. What else orders warps (mbarriers, named barriers, fences of the
// asynchronous proxy) makes the block "cross": from then on whole rows are kept.
#pragma once

#include <cstddef>
#include <cstdint>

#include "race.h"

namespace simt::detail {

constexpr uint32_t kThreadColumns = 1024;
constexpr uint32_t kBarrierColumn = kThreadColumns;
constexpr uint32_t kGroupColumn = kBarrierColumn + kMostBarriers;
constexpr uint32_t kColumns = kGroupColumn + kMostWarpGroups;

class Clocks {
 public:
  Clocks();

  void begin_block(uint32_t threads);
  bool is_cross() const { return cross_; }
  // `ordered_so_far`: a barrier of the whole block has been passed since its start, so all that was
  // before counts as ordered. What happened between it and this call does then as well.
  void become_cross(bool ordered_so_far);

  uint32_t seen(uint32_t thread, uint32_t column) const { return *at(seen_, thread, column); }
  uint32_t now(uint32_t thread) const { return seen(thread, thread); }
  // How far the column's ordinary accesses are ordered before what the thread lets the asynchronous
  // proxy do: there was a fence.proxy.async between.
  uint32_t fenced(uint32_t thread, uint32_t column) const { return *at(fenced_, thread, column); }

  void meet_block();
  void meet_warp(uint32_t first_thread, uint32_t lanes);
  void fence(uint32_t thread);
  void release(uint32_t thread, SyncClock* clock);
  void acquire(uint32_t thread, const SyncClock& clock);
  void observe(uint32_t thread, uint32_t column, uint32_t clock);

 private:
  static uint32_t* at(uint32_t* rows, uint32_t thread, uint32_t column) {
    return rows + static_cast<size_t>(thread) * kColumns + column;
  }
  static const uint32_t* at(const uint32_t* rows, uint32_t thread, uint32_t column) {
    return rows + static_cast<size_t>(thread) * kColumns + column;
  }
  // to = max(to, from), over the columns in use.
  void join(uint32_t* to, const uint32_t* from) const;

  uint32_t threads_ = 0;
  bool cross_ = false;
  uint32_t dirty_ = 0;  // rows that a cross block left behind
  uint32_t* seen_;
  uint32_t* fenced_;
};

}  // namespace simt::detail
