// Where a layer's time goes, added up while it runs. A forward reads the clock a few times in all.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "abi/backend.h"

namespace sparse_experts::cpu {

enum class Phase { kRouting, kDispatch, kExperts, kCombine };

// Written by one forward at a time, read by anyone.
class PhaseTimes {
 public:
  void add(Phase phase, int64_t nanoseconds) {
    nanoseconds_[static_cast<int>(phase)].fetch_add(nanoseconds, std::memory_order_relaxed);
  }
  SePhaseTimes read() const {
    return {of(Phase::kRouting), of(Phase::kDispatch), of(Phase::kExperts), of(Phase::kCombine)};
  }

 private:
  int64_t of(Phase phase) const {
    return nanoseconds_[static_cast<int>(phase)].load(std::memory_order_relaxed);
  }
  std::atomic<int64_t> nanoseconds_[4] = {};
};

// What has passed since the last end of a phase is the next one's.
class PhaseClock {
 public:
  explicit PhaseClock(PhaseTimes* times) : times_(times), last_(Clock::now()) {}
  void ends(Phase phase) {
    const Clock::time_point now = Clock::now();
    times_->add(phase, std::chrono::nanoseconds(now - last_).count());
    last_ = now;
  }

 private:
  using Clock = std::chrono::steady_clock;
  PhaseTimes* times_;
  Clock::time_point last_;
};

}  // namespace sparse_experts::cpu
