#include "fixture.h"

#include <chrono>
#include <thread>
#include <utility>

namespace engine_test {

std::shared_ptr<DeviceExecutor> make_executor() {
  static std::atomic<int> number{0};
  return std::make_shared<DeviceExecutor>(Stub::table(), 0, "stub-" + std::to_string(number++));
}

bool wait_until(const std::function<bool()>& condition) {
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > patience) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

Inbox::Inbox() {
  queue_ = std::make_shared<CompletionQueue>([this] {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_woken_ = true;
    arrived_.notify_all();
  });
}

Inbox::~Inbox() { queue_->close(); }

void Inbox::hold(std::shared_ptr<DeviceTask> task) {
  const std::lock_guard<std::mutex> lock(mutex_);
  tasks_.push_back(std::move(task));
}

// Only when it was woken, as Node is. Not under the lock: post() holds the queue's and then takes
// ours.
void Inbox::take_events() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!std::exchange(is_woken_, false)) return;
  }
  const std::vector<CompletionQueue::Event> events = queue_->take();
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const CompletionQueue::Event& event : events) {
    if (event.kind == CompletionQueue::Event::kDone)
      done_.push_back(event.call_id);
    else
      ++progress_;
  }
}

std::vector<uint64_t> Inbox::wait_done(size_t count) {
  wait_until([&] { return done() >= count; });
  const std::lock_guard<std::mutex> lock(mutex_);
  return done_;
}

size_t Inbox::done() {
  take_events();
  const std::lock_guard<std::mutex> lock(mutex_);
  return done_.size();
}

int Inbox::progress() {
  take_events();
  const std::lock_guard<std::mutex> lock(mutex_);
  return progress_;
}

std::shared_ptr<Task> make_task(Inbox& inbox, uint64_t id, std::function<void(Task&)> body,
                                const void* owner) {
  auto task = std::make_shared<Task>(std::move(body));
  task->owner = owner;
  task->call_id = id;
  task->completions = inbox.queue();
  inbox.hold(task);
  return task;
}

LayerDescription small_layer() {
  static const std::vector<float> values(64, 0.5F);
  LayerDescription layer;
  layer.hidden_size = 6;
  layer.intermediate_size = 8;
  layer.shared_intermediate_size = 4;
  layer.num_experts = 3;
  layer.routing.num_experts = 3;
  layer.routing.top_k = 2;
  layer.activation.gated = 1;
  layer.shared_activation.gated = 1;
  layer.vectors[sparse_experts::kRouterWeight] = {values.data(), 3 * 6};
  layer.vectors[sparse_experts::kUpBias] = {values.data(), 3 * 8};
  layer.vectors[sparse_experts::kGateBias] = {values.data(), 3 * 8};
  return layer;
}

Failure failure_of(const std::function<void()>& body) {
  try {
    body();
  } catch (...) {
    return current_failure();
  }
  return {};
}

}  // namespace engine_test
