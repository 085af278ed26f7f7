// Forward and reverse take turns: a warp runs each of its ready lanes once (to its next collective
// or barrier), then the next warp. Random takes any. Skewed serves warps by rank, so that one runs
// ahead as far as barriers let it; a starving warp gets a turn now and then, else a thread that
// polls would never see what it waits for.
#include "schedule.h"

#include <numeric>

namespace simt::detail {
namespace {

constexpr uint32_t kStreak = 1u << 14;

unsigned lowest(uint32_t bits) { return static_cast<unsigned>(__builtin_ctz(bits)); }
unsigned highest(uint32_t bits) { return 31u - static_cast<unsigned>(__builtin_clz(bits)); }

unsigned nth_set(uint32_t bits, unsigned n) {
  for (; n > 0; --n) bits &= bits - 1;
  return lowest(bits);
}

// The first set bit after `position`, cyclic.
unsigned next_after(uint32_t bits, unsigned position) {
  const uint32_t above = position == 31 ? 0 : bits & ~0u << (position + 1);
  return lowest(above != 0 ? above : bits);
}

template <typename T>
void shuffle(T* values, uint64_t count, Random* random) {
  for (uint64_t i = count; i > 1; --i) {
    const uint64_t j = random->below(static_cast<uint32_t>(i));
    const T kept = values[i - 1];
    values[i - 1] = values[j];
    values[j] = kept;
  }
}

}  // namespace

void Random::reset(uint64_t seed) {
  state_ = (seed + 1) * 0x9e3779b97f4a7c15u;
  if (state_ == 0) state_ = 1;
  next();
}

uint64_t Random::next() {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545f4914f6cdd1du;
}

void ReadySet::reset(Schedule schedule, unsigned warps, uint64_t seed) {
  schedule_ = schedule;
  random_.reset(seed);
  ranks_ = 0;
  streak_ = 0;
  for (unsigned i = 0; i < warps; ++i) {
    ready_[i] = next_[i] = 0;
    warp_[i] = static_cast<uint8_t>(schedule == Schedule::kReverse ? warps - 1 - i : i);
  }
  if (schedule == Schedule::kSkewed) shuffle(warp_, warps, &random_);
  for (unsigned i = 0; i < warps; ++i) rank_[warp_[i]] = static_cast<uint8_t>(i);
  from_top_ =
      schedule == Schedule::kReverse || (schedule == Schedule::kSkewed && random_.below(2) == 1);
  current_ = warps - 1;  // the first turn goes to rank 0
}

unsigned ReadySet::choose_rank() {
  switch (schedule_) {
    case Schedule::kRandom:
      return nth_set(ranks_, random_.below(static_cast<uint32_t>(__builtin_popcount(ranks_))));
    case Schedule::kSkewed: {
      const unsigned first = lowest(ranks_);
      if ((ranks_ & (ranks_ - 1)) == 0) {
        streak_ = 0;
        return first;
      }
      if (++streak_ < kStreak) return first;
      streak_ = 0;
      return nth_set(ranks_,
                     1 + random_.below(static_cast<uint32_t>(__builtin_popcount(ranks_) - 1)));
    }
    default:
      return ready_[warp_[current_]] != 0 ? current_ : next_after(ranks_, current_);
  }
}

int ReadySet::take() {
  if (ranks_ == 0) return -1;
  const unsigned rank = choose_rank();
  const unsigned warp = warp_[rank];
  current_ = rank;
  unsigned lane;
  if (schedule_ == Schedule::kRandom) {
    const uint32_t lanes = ready_[warp] | next_[warp];
    lane = nth_set(lanes, random_.below(static_cast<uint32_t>(__builtin_popcount(lanes))));
  } else {
    if (ready_[warp] == 0) {
      ready_[warp] = next_[warp];
      next_[warp] = 0;
    }
    lane = from_top_ ? highest(ready_[warp]) : lowest(ready_[warp]);
  }
  ready_[warp] &= ~(1u << lane);
  next_[warp] &= ~(1u << lane);
  if ((ready_[warp] | next_[warp]) == 0) ranks_ &= ~(1u << rank);
  return static_cast<int>(warp * 32 + lane);
}

std::vector<uint64_t> block_order(Schedule schedule, uint64_t blocks, uint64_t seed) {
  std::vector<uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (schedule == Schedule::kReverse) {
    for (uint64_t i = 0; i < blocks; ++i) order[i] = blocks - 1 - i;
  } else if (schedule != Schedule::kForward) {
    Random random(seed);
    shuffle(order.data(), blocks, &random);
  }
  return order;
}

}  // namespace simt::detail
