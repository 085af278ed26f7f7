#include "race_clocks.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace simt::detail {
namespace {

constexpr size_t kRowBytes = kColumns * sizeof(uint32_t);

uint32_t* allocate_rows() {
  void* memory = std::calloc(kThreadColumns, kRowBytes);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<uint32_t*>(memory);
}

void join_columns(uint32_t* to, const uint32_t* from, uint32_t first, uint32_t end) {
  for (uint32_t i = first; i < end; ++i) to[i] = to[i] < from[i] ? from[i] : to[i];
}

}  // namespace

Clocks::Clocks() : seen_(allocate_rows()), fenced_(allocate_rows()) {}

void Clocks::begin_block(uint32_t threads) {
  if (dirty_ > 0) {
    std::memset(seen_, 0, dirty_ * kRowBytes);
    std::memset(fenced_, 0, dirty_ * kRowBytes);
  }
  dirty_ = 0;
  cross_ = false;
  threads_ = threads;
  for (uint32_t i = 0; i < threads; ++i) {
    std::memset(at(seen_, i, i & ~31u), 0, 32 * sizeof(uint32_t));
    *at(seen_, i, i) = 1;
  }
}

void Clocks::become_cross(bool ordered_so_far) {
  if (cross_) return;
  cross_ = true;
  dirty_ = threads_;
  if (ordered_so_far) meet_block();
}

void Clocks::join(uint32_t* to, const uint32_t* from) const {
  join_columns(to, from, 0, threads_);
  join_columns(to, from, kThreadColumns, kColumns);
}

void Clocks::meet_block() {
  if (!cross_) return;
  uint32_t seen[kColumns] = {};
  uint32_t fenced[kColumns] = {};
  for (uint32_t i = 0; i < threads_; ++i) {
    join(seen, at(seen_, i, 0));
    join(fenced, at(fenced_, i, 0));
  }
  for (uint32_t i = 0; i < threads_; ++i) {
    std::memcpy(at(seen_, i, 0), seen, sizeof seen);
    std::memcpy(at(fenced_, i, 0), fenced, sizeof fenced);
    ++*at(seen_, i, i);
  }
}

void Clocks::meet_warp(uint32_t first_thread, uint32_t lanes) {
  if (!cross_) {
    uint32_t merged[32] = {};
    for (uint32_t left = lanes; left != 0; left &= left - 1) {
      const uint32_t thread = first_thread + static_cast<uint32_t>(__builtin_ctz(left));
      join_columns(merged, at(seen_, thread, first_thread), 0, 32);
    }
    for (uint32_t left = lanes; left != 0; left &= left - 1) {
      const uint32_t thread = first_thread + static_cast<uint32_t>(__builtin_ctz(left));
      std::memcpy(at(seen_, thread, first_thread), merged, sizeof merged);
      ++*at(seen_, thread, thread);
    }
    return;
  }
  uint32_t seen[kColumns] = {};
  uint32_t fenced[kColumns] = {};
  for (uint32_t left = lanes; left != 0; left &= left - 1) {
    const uint32_t thread = first_thread + static_cast<uint32_t>(__builtin_ctz(left));
    join(seen, at(seen_, thread, 0));
    join(fenced, at(fenced_, thread, 0));
  }
  for (uint32_t left = lanes; left != 0; left &= left - 1) {
    const uint32_t thread = first_thread + static_cast<uint32_t>(__builtin_ctz(left));
    std::memcpy(at(seen_, thread, 0), seen, sizeof seen);
    std::memcpy(at(fenced_, thread, 0), fenced, sizeof fenced);
    ++*at(seen_, thread, thread);
  }
}

void Clocks::fence(uint32_t thread) {
  join(at(fenced_, thread, 0), at(seen_, thread, 0));
  ++*at(seen_, thread, thread);  // what the thread does next is not fenced
}

void Clocks::release(uint32_t thread, SyncClock* clock) {
  clock->seen.resize(kColumns);
  clock->fenced.resize(kColumns);
  join(clock->seen.data(), at(seen_, thread, 0));
  join(clock->fenced.data(), at(fenced_, thread, 0));
  ++*at(seen_, thread, thread);  // what the thread does next is not released
}

void Clocks::acquire(uint32_t thread, const SyncClock& clock) {
  if (clock.seen.empty()) return;
  join(at(seen_, thread, 0), clock.seen.data());
  join(at(fenced_, thread, 0), clock.fenced.data());
}

void Clocks::observe(uint32_t thread, uint32_t column, uint32_t clock) {
  uint32_t* entry = at(seen_, thread, column);
  *entry = std::max(*entry, clock);
}

}  // namespace simt::detail
