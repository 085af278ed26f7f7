// The way back from the engine's threads to the thread that made a call: they post the number of the
// call, its owner is woken and takes the events in order.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>

namespace sparse_experts::engine {

class CompletionQueue {
 public:
  struct Event {
    enum Kind { kProgress, kDone };
    uint64_t call_id;
    Kind kind;
  };

  // `wake` runs once per event on the thread that posts it, one at a time. It must neither block nor
  // come back to this queue.
  explicit CompletionQueue(std::function<void()> wake);
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Any thread. After close() it does nothing.
  void post(Event event);
  // The oldest event. False: there is none.
  bool pop(Event* event);
  // Its owner has taken all events.
  bool is_empty();
  // When it returns no thread is inside of `wake`, and none will be again.
  void close();

 private:
  std::mutex mutex_;
  const std::function<void()> wake_;
  std::deque<Event> events_;
  bool closed_ = false;
};

}  // namespace sparse_experts::engine
