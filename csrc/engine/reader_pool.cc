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

void ReaderPool::begin(size_t num_threads, std::function<void(ReadScratch&)> work) {
  // Nobody else starts threads: one call at a time has the pool.
  while (threads_.size() < num_threads) {
    const size_t index = threads_.size();
    try {
      threads_.emplace_back([this, index] { thread_main(index); });
    } catch (const std::system_error&) {
      if (threads_.empty()) throw;
      break;
    }
  }
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
    changed_.wait(lock, [&] { return stop_ || (round_ != seen && num_running_ > 0); });
    if (stop_) return;
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
