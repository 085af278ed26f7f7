#include "engine/completion.h"

#include <utility>

namespace sparse_experts::engine {

CompletionQueue::CompletionQueue(std::function<void()> wake) : wake_(std::move(wake)) {}

void CompletionQueue::post(Event event) {
  // The call stays under the lock: close() must not return while a thread is inside of it.
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  events_.push_back(event);
  wake_();
}

bool CompletionQueue::pop(Event* event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (events_.empty()) return false;
  *event = events_.front();
  events_.pop_front();
  return true;
}

bool CompletionQueue::is_empty() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return events_.empty();
}

void CompletionQueue::close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  events_.clear();
}

}  // namespace sparse_experts::engine
