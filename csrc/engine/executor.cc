#include "engine/executor.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

namespace sparse_experts::engine {
namespace {

// What process.exit() waits for a running task; it stops between experts, so this is never reached
// in practice.
constexpr std::chrono::seconds kExitPatience{5};

// Between two questions whether a watched task is still wanted: a thread that is to end does so
// within this, and what an expert's piece of work takes.
constexpr std::chrono::milliseconds kWatchInterval{50};

// While a turn waits for calls, the time between two looks whether there is a reason to.
constexpr std::chrono::milliseconds kLookInterval{1};

using Ends = std::vector<std::pair<std::shared_ptr<CompletionQueue>, uint64_t>>;

// Callers of one thread hear of the ends of a turn together.
void post_ends(const Ends& ends) {
  std::vector<CompletionQueue::Event> events;
  for (auto end = ends.begin(); end != ends.end(); ++end) {
    events.push_back({end->second, CompletionQueue::Event::kDone});
    const auto next = end + 1;
    if (next != ends.end() && next->first == end->first) continue;
    end->first->post(events);
    events.clear();
  }
}

}  // namespace

DeviceExecutor::DeviceExecutor(const SeBackend* backend, int32_t index, std::string device_id)
    : backend_(backend), device_id_(std::move(device_id)) {
  SeStatus status = {};
  throw_if_failed(Failure::from(status, backend_->device_open(index, &device_, &status)));
  SeDeviceInfo info = {};
  const Failure failure = Failure::from(status, backend_->device_info(index, &info, &status));
  if (!failure.is_ok()) {
    backend_->device_close(device_);
    throw_if_failed(failure);
  }
  is_host_ = info.is_host != 0;
  is_batch_invariant_ = info.is_batch_invariant != 0;
}

DeviceExecutor::~DeviceExecutor() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (const Discarded& item : discarded_) free_discarded(item);
  if (workspace_ != nullptr) free_discarded({nullptr, workspace_, workspace_bytes_, false});
  backend_->device_close(device_);
}

void DeviceExecutor::submit(std::shared_ptr<DeviceTask> task) { enqueue(std::move(task), false); }

void DeviceExecutor::enqueue(std::shared_ptr<DeviceTask> task, bool at_head) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { thread_main(); });
    if (at_head) {
      queue_.push_front(std::move(task));
    } else {
      queue_.push_back(std::move(task));
      if (queue_.size() < awaited_) return;
    }
  }
  changed_.notify_all();
}

struct DeviceExecutor::Watched::End {
  std::mutex mutex;
  std::condition_variable changed;
  bool has_come = false;
};

DeviceExecutor::Watched::Watched(DeviceExecutor& executor, const std::shared_ptr<DeviceTask>& task)
    : end_(std::make_shared<End>()) {
  task->completions = std::make_shared<CompletionQueue>([end = end_] {
    const std::lock_guard<std::mutex> lock(end->mutex);
    end->has_come = true;
    end->changed.notify_all();
  });
  executor.enqueue(task, true);
}

bool DeviceExecutor::Watched::wait() const {
  std::unique_lock<std::mutex> lock(end_->mutex);
  return end_->changed.wait_for(lock, kWatchInterval, [this] { return end_->has_come; });
}

CancelResult DeviceExecutor::cancel(const DeviceTask& task) {
  std::shared_ptr<DeviceTask> dropped;  // released after the lock
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found =
      std::find_if(queue_.begin(), queue_.end(),
                   [&](const std::shared_ptr<DeviceTask>& item) { return item.get() == &task; });
  if (found != queue_.end()) {
    dropped = std::move(*found);
    queue_.erase(found);
    return CancelResult::kDropped;
  }
  if (std::find(running_.begin(), running_.end(), &task) == running_.end())
    return CancelResult::kDone;
  stop([&](const DeviceTask& running) { return &running == &task; });
  return CancelResult::kStopping;
}

template <typename IsMeant>
void DeviceExecutor::stop(IsMeant&& is_meant) {
  bool are_all_cancelled = true;
  for (DeviceTask* running : running_) {
    if (is_meant(*running)) running->cancel.store(1, std::memory_order_relaxed);
    are_all_cancelled = are_all_cancelled && running->cancel.load(std::memory_order_relaxed) != 0;
  }
  if (are_all_cancelled) all_cancelled_.store(1, std::memory_order_relaxed);
}

void DeviceExecutor::drop_all(const void* owner) {
  std::deque<std::shared_ptr<DeviceTask>> dropped;
  std::unique_lock<std::mutex> lock(mutex_);
  for (auto item = queue_.begin(); item != queue_.end();) {
    if ((*item)->owner == owner) {
      dropped.push_back(std::move(*item));
      item = queue_.erase(item);
    } else {
      ++item;
    }
  }
  const auto is_owned = [&](const DeviceTask& running) { return running.owner == owner; };
  stop(is_owned);
  changed_.wait(lock, [&] {
    return std::none_of(running_.begin(), running_.end(),
                        [&](const DeviceTask* running) { return is_owned(*running); });
  });
}

bool DeviceExecutor::has_room_for_more() {
  DeviceTask& first = *queue_.front();
  return first.begin_turn() &&
         std::none_of(queue_.begin() + 1, queue_.end(),
                      [&](const auto& item) { return first.ask(*item) == Joining::kStops; });
}

// A thread that has not yet heard of the ends of its calls is about to make more. A turn without them
// would be small, and where the device computes on the processors that this thread needs, it would keep
// them from coming. Where `company_` expects them, the last one to come wakes this thread: each time it
// is woken for less, it takes the processor from those that are still to come.
void DeviceExecutor::await_company(std::unique_lock<std::mutex>* lock) {
  while (!stop_ && !busy_ && exclusive_waiting_ == 0 && (queue_.empty() || has_room_for_more())) {
    const auto left = company_.patience_ends() - Company::Clock::now();
    if (left <= left.zero()) return;
    const auto patience = std::min<Company::Clock::duration>(left, kLookInterval);
    if (queue_.size() < company_.expected()) {
      awaited_ = company_.expected();
      changed_.wait_for(*lock, patience);
      awaited_ = 0;
      continue;
    }
    if (queue_.empty()) return;
    const std::shared_ptr<CompletionQueue> completions = queue_.front()->completions;
    if (completions->is_empty()) return;
    lock->unlock();
    completions->wait_taken(patience);
    lock->lock();
  }
}

DeviceTasks DeviceExecutor::take_turn() {
  DeviceTasks turn = {std::move(queue_.front())};
  queue_.pop_front();
  DeviceTask& first = *turn.front();
  if (!first.begin_turn()) return turn;
  auto item = queue_.begin();
  for (; item != queue_.end(); ++item) {
    const Joining joining = first.ask(**item);
    if (joining == Joining::kStops) break;
    if (joining == Joining::kJoins) turn.push_back(std::move(*item));
  }
  queue_.erase(std::remove(queue_.begin(), item, nullptr), item);
  return turn;
}

void DeviceExecutor::thread_main() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const auto can_begin = [this] { return !queue_.empty() && !busy_ && exclusive_waiting_ == 0; };
    await_company(&lock);
    changed_.wait(lock, [&] { return stop_ || can_begin(); });
    await_company(&lock);
    if (stop_) return;
    if (!can_begin()) continue;
    company_.turn_begins(Company::Clock::now());
    DeviceTasks turn = take_turn();
    for (const std::shared_ptr<DeviceTask>& task : turn) running_.push_back(task.get());
    all_cancelled_.store(0, std::memory_order_relaxed);
    busy_ = true;
    lock.unlock();

    if (turn.size() == 1) {
      turn.front()->run(*this);
    } else {
      turn.front()->run_turn(*this, turn, all_cancelled_);
    }

    // Submitters hold their tasks until they hear kDone, and drop_all waits for running_: so nothing
    // is destroyed on this thread, and this executor itself cannot end here.
    Ends ends;
    for (const std::shared_ptr<DeviceTask>& task : turn)
      ends.emplace_back(task->completions, task->call_id);
    turn.clear();
    lock.lock();
    company_.turn_ends(Company::Clock::now(), ends.size(), queue_.size());
    running_.clear();
    lock.unlock();
    end_busy();
    post_ends(ends);
    lock.lock();
  }
}

DeviceExecutor::Exclusive::Exclusive(DeviceExecutor& executor) : executor_(executor) {
  std::unique_lock<std::mutex> lock(executor_.mutex_);
  ++executor_.exclusive_waiting_;
  executor_.changed_.wait(lock, [&] { return !executor_.busy_; });
  --executor_.exclusive_waiting_;
  executor_.busy_ = true;
}

DeviceExecutor::Exclusive::~Exclusive() { executor_.end_busy(); }

void DeviceExecutor::end_busy() noexcept {
  std::vector<Discarded> items;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!discarded_.empty()) {
      items.swap(discarded_);
      lock.unlock();
      for (const Discarded& item : items) free_discarded(item);
      items.clear();
      lock.lock();
    }
    busy_ = false;
  }
  changed_.notify_all();
}

// exit(3) runs the destructors of static objects while our threads live. So no task may be running
// then: none begins any more, the running one is asked to stop, and exit waits for it.
void DeviceExecutor::prepare_for_exit() {
  std::unique_lock<std::mutex> lock(mutex_);
  ++exclusive_waiting_;
  stop([](const DeviceTask& /*running*/) { return true; });
  changed_.wait_for(lock, kExitPatience, [this] { return !busy_; });
}

}  // namespace sparse_experts::engine
