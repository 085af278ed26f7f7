#include "engine/completion.h"

#include <utility>

namespace sparse_experts::engine {

CompletionQueue::CompletionQueue(std::function<void()> wake) : wake_(std::move(wake)) {}

void CompletionQueue::post(const std::vector<Event>& events) {
  // The call stays under the lock: close() must not return while a thread is inside of it.
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_ || events.empty()) return;
  // Whoever was woken for what is there takes these along.
  const bool is_asleep = events_.empty();
  events_.insert(events_.end(), events.begin(), events.end());
  if (is_asleep) wake_();
}

std::vector<CompletionQueue::Event> CompletionQueue::take() {
  std::vector<Event> events;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    events.swap(events_);
  }
  taken_.notify_all();
  return events;
}

bool CompletionQueue::is_empty() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return events_.empty();
}

void CompletionQueue::wait_taken(std::chrono::steady_clock::duration patience) {
  std::unique_lock<std::mutex> lock(mutex_);
  taken_.wait_for(lock, patience, [this] { return events_.empty(); });
}

void CompletionQueue::close() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    events_.clear();
  }
  taken_.notify_all();
}

}  // namespace sparse_experts::engine
