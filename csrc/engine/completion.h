// The way back from the engine's threads to the thread that made a call: they post the numbers of calls,
// their owner is woken and takes all events that are there at once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace sparse_experts::engine {

class CompletionQueue {
 public:
  struct Event {
    enum Kind { kProgress, kDone };
    uint64_t call_id;
    Kind kind;
  };

  // `wake` runs on the thread that posts to an empty queue, one at a time. It must neither block nor
  // come back to this queue. Whoever it wakes has to take what is there.
  explicit CompletionQueue(std::function<void()> wake);
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Any thread. After close() it does nothing. The owner never sees a part of `events`.
  void post(const std::vector<Event>& events);
  void post(Event event) { post(std::vector<Event>{event}); }
  // All events, the oldest first.
  std::vector<Event> take();
  // Whether its owner has taken all events.
  bool is_empty();
  // Returns once it has, or after `patience`.
  void wait_taken(std::chrono::steady_clock::duration patience);
  // When it returns no thread is inside of `wake`, and none will be again.
  void close();

 private:
  std::mutex mutex_;
  std::condition_variable taken_;
  const std::function<void()> wake_;
  std::vector<Event> events_;
  bool closed_ = false;
};

}  // namespace sparse_experts::engine
