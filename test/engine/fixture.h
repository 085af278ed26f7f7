// What the engine's tests share: an executor over a stub, a place where completions arrive, small
// layers, and waiting.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/completion.h"
#include "engine/executor.h"
#include "engine/layer.h"
#include "stub_backend.h"

namespace engine_test {

using namespace sparse_experts::engine;

// Losses are kept by device id for the whole process, so every executor of a test has its own id.
std::shared_ptr<DeviceExecutor> make_executor();

// Returns when `condition` holds; false after half a minute, which no test takes.
bool wait_until(const std::function<bool()>& condition);

// A queue with its owner: events are taken as they come and kept.
class Inbox {
 public:
  Inbox();
  ~Inbox();

  const std::shared_ptr<CompletionQueue>& queue() const { return queue_; }
  // Whoever submits a task holds it until it has completed.
  void hold(std::shared_ptr<DeviceTask> task);
  // Call ids of kDone, in the order of their arrival, once there are `count`.
  std::vector<uint64_t> wait_done(size_t count);
  // Progress events so far.
  int progress();
  size_t done();

 private:
  void take_events();

  std::mutex mutex_;
  std::condition_variable arrived_;
  bool is_woken_ = false;
  std::vector<uint64_t> done_;
  int progress_ = 0;
  std::vector<std::shared_ptr<DeviceTask>> tasks_;
  std::shared_ptr<CompletionQueue> queue_;
};

// A task of `body`.
class Task final : public DeviceTask {
 public:
  explicit Task(std::function<void(Task&)> body) : body_(std::move(body)) {}
  void run(DeviceExecutor& /*executor*/) noexcept override { body_(*this); }
  bool is_cancelled() const { return cancel.load(std::memory_order_relaxed) != 0; }

 private:
  std::function<void(Task&)> body_;
};

std::shared_ptr<Task> make_task(Inbox& inbox, uint64_t id, std::function<void(Task&)> body,
                                const void* owner = nullptr);

// 3 gated experts of 8 x 6 (intermediate, hidden) with a router, a shared expert and biases.
LayerDescription small_layer();

// The failure that `body` throws; ok when it throws none.
Failure failure_of(const std::function<void()>& body);

}  // namespace engine_test
