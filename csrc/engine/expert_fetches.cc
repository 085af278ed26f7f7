#include "engine/expert_fetches.h"

#include <algorithm>
#include <utility>

namespace sparse_experts::engine {
namespace {

// Between two looks at the flag of a call that waits.
constexpr std::chrono::milliseconds kLookInterval{5};

}  // namespace

ExpertFetches::ExpertFetches(const std::vector<ExpertFetch>* fetches, Read read)
    : fetches_(*fetches), read_(std::move(read)), check_([this] {
        if (stop_.load(std::memory_order_relaxed))
          throw_if_failed(Failure::from(Status::cancelled()));
      }) {}

// The next fetch, its block free to read into. False: there is none, or nobody wants it.
bool ExpertFetches::next(size_t* index) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (stop_ || next_ == fetches_.size()) return false;
  *index = next_++;
  const ExpertFetch& fetch = fetches_[*index];
  if (!fetch.is_ring) return true;
  // Those that come to the block before this one have begun already, or wait for it too: the last of a
  // block keeps it, so whoever comes out of turn would leave the others waiting for good.
  const auto is_mine = [&] {
    const auto has_it = [&](size_t other) {
      return other < *index && fetches_[other].block == fetch.block;
    };
    return std::find(taken_.begin(), taken_.end(), fetch.block) == taken_.end() &&
           std::none_of(waiting_.begin(), waiting_.end(), has_it);
  };
  waiting_.push_back(*index);
  changed_.wait(lock, [&] { return stop_ || is_mine(); });
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), *index));
  if (stop_) return false;
  taken_.push_back(fetch.block);
  return true;
}

void ExpertFetches::work(ReadScratch& scratch) noexcept {
  for (size_t index = 0; next(&index);) {
    try {
      read_(fetches_[index], scratch, check_);
    } catch (...) {
      fail(index);
      return;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    arrived_.push_back(index);
    changed_.notify_all();
  }
}

// Called in a handler. Of several failures the one of the first expert is told.
void ExpertFetches::fail(size_t index) {
  const Failure failure = current_failure();
  const std::lock_guard<std::mutex> lock(mutex_);
  const bool is_stopped = failure.code == ErrorCode::kCancelled;
  if (!is_stopped && (failure_.is_ok() || index < failed_)) {
    failure_ = failure;
    failed_ = index;
  }
  stop_ = true;
  changed_.notify_all();
}

std::vector<size_t> ExpertFetches::take(const int32_t* cancel) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begun = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  if (num_taken_ == fetches_.size()) return {};
  while (arrived_.empty()) {
    throw_if_failed(failure_);
    if (stop_ || (cancel != nullptr && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0))
      throw_if_failed(Failure::from(Status::cancelled()));
    changed_.wait_for(lock, kLookInterval);
  }
  waited_ += Clock::now() - begun;
  num_taken_ += arrived_.size();
  return std::exchange(arrived_, {});
}

void ExpertFetches::give_back(uint8_t* block) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    taken_.erase(std::remove(taken_.begin(), taken_.end(), block), taken_.end());
  }
  changed_.notify_all();
}

void ExpertFetches::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
}

}  // namespace sparse_experts::engine
