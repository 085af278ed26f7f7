#include "engine/reader_pool.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace sparse_experts::engine {

ReaderPool::~ReaderPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

// Nobody else starts threads: one call at a time has the pool.
void ReaderPool::start_threads(size_t num_threads) {
  while (threads_.size() < num_threads) {
    const size_t index = threads_.size();
    try {
      threads_.emplace_back([this, index] { thread_main(index); });
    } catch (const std::system_error&) {
      if (threads_.empty()) throw;
      break;
    }
  }
}

void ReaderPool::read_ahead(size_t num_threads, std::vector<AheadRead> reads) {
  start_threads(num_threads);
  {
    // Under the mutex, so that no thread misses them between its last look and its sleep.
    const std::lock_guard<std::mutex> lock(mutex_);
    ahead_.add(std::move(reads));
    num_ahead_ = num_threads;
  }
  changed_.notify_all();
}

void ReaderPool::begin(size_t num_threads, std::function<void(ReadScratch&)> work) {
  start_threads(num_threads);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_ = std::move(work);
    num_wanted_ = std::min(num_threads, threads_.size());
    num_running_ = num_wanted_;
    ++round_;
  }
  changed_.notify_all();
}

void ReaderPool::wait() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return num_running_ == 0; });
  work_ = nullptr;
}

void ReaderPool::thread_main(size_t index) {
  ReadScratch scratch;
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const auto has_work = [&] { return round_ != seen && num_running_ > 0; };
    const auto is_free = [&] {
      return index < num_ahead_ && num_running_ == 0 && ahead_.has_waiting();
    };
    changed_.wait(lock, [&] { return stop_ || has_work() || is_free(); });
    if (stop_) return;
    if (!has_work()) {
      lock.unlock();
      ahead_.work(scratch);
      lock.lock();
      continue;
    }
    seen = round_;
    if (index >= num_wanted_) continue;
    lock.unlock();
    work_(scratch);
    lock.lock();
    --num_running_;
    changed_.notify_all();
  }
}

}  // namespace sparse_experts::engine
