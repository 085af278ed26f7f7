#include "engine/company.h"

#include <algorithm>

namespace sparse_experts::engine {
namespace {

constexpr std::chrono::milliseconds kMostPatience{5};
// Turns of a period, in which one way is measured: enough for the calls to have found their rhythm.
constexpr int kPeriodTurns = 16;
// Periods after which a figure is too old to be believed.
constexpr int kTrustedPeriods = 16;
// By how much waiting has to be better: it makes single calls take longer.
constexpr double kLeastGain = 1.05;

}  // namespace

void Company::turn_begins(Clock::time_point now) {
  // Else the device was idle because nobody called, which says nothing about either way.
  is_counted_ = present_ > 1 && now - last_end_ <= 2 * patience_;
  begun_ = now;
}

void Company::turn_ends(Clock::time_point now, size_t served, size_t waiting) {
  if (is_counted_) {
    calls_ += served;
    time_ += now - last_end_;
    if (++turns_ == kPeriodTurns) end_period();
  }
  present_ = served + waiting;
  patience_ = std::min<Clock::duration>(now - begun_, kMostPatience);
  last_end_ = now;
}

void Company::end_period() {
  Way& own = ways_[waits_ ? 1 : 0];
  Way& other = ways_[waits_ ? 0 : 1];
  own = {static_cast<double>(calls_) / std::chrono::duration<double>(time_).count(), 0};
  turns_ = 0;
  calls_ = 0;
  time_ = Clock::duration{0};
  ++other.age;
  if (other.calls_per_second == 0 || other.age > kTrustedPeriods) {
    waits_ = !waits_;
  } else {
    waits_ = ways_[1].calls_per_second > kLeastGain * ways_[0].calls_per_second;
  }
}

}  // namespace sparse_experts::engine
