// One per device and process: the opened device, one thread that runs tasks in the order of
// submission, and the workspace that all forwards of the device share. Everyone in the process who
// uses the device shares it.
//
// A task may take others that wait along in its turn, where running them at once costs less than one
// by one. It chooses them, in their order; those that it passes over keep their places.
//
// Allocating, freeing and copying go on beside a running task; whatever computes runs alone. A
// device that is lost stays lost for the process: every call answers with the first cause.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "abi/backend.h"
#include "engine/company.h"
#include "engine/completion.h"
#include "engine/failure.h"

namespace sparse_experts::engine {

class DeviceExecutor;
class ReaderPool;

class DeviceTask;
using DeviceTasks = std::vector<std::shared_ptr<DeviceTask>>;

// Whether a task that waits runs in the turn of another.
enum class Joining {
  kJoins,
  kPasses,  // no, and it does not mind if those behind it do
  kStops    // no, and nobody behind it may either
};

// Work for the executor's thread.
class DeviceTask {
 public:
  virtual ~DeviceTask() = default;
  virtual void run(DeviceExecutor& executor) noexcept = 0;

  // Of the first task that waits: whether others may have a part of its turn. If so, `ask` follows
  // for those that wait behind it, in their order, until one stops it. Under the executor's lock: no
  // waiting, no calls of the device.
  virtual bool begin_turn() { return false; }
  virtual Joining ask(const DeviceTask& /*next*/) { return Joining::kStops; }
  // Runs `turn`, two tasks or more, of which this is the first. `all_cancelled` is set once each of
  // them is.
  virtual void run_turn(DeviceExecutor& executor, const DeviceTasks& turn,
                        const std::atomic<int32_t>& /*all_cancelled*/) noexcept {
    for (const std::shared_ptr<DeviceTask>& task : turn) task->run(executor);
  }

  std::atomic<int32_t> cancel{0};
  const void* owner = nullptr;  // whose tasks drop_all drops
  uint64_t call_id = 0;
  std::shared_ptr<CompletionQueue> completions;
};

enum class CancelResult { kDropped, kStopping, kDone };

class DeviceExecutor {
 public:
  // The executor of a device ('cpu', 'cuda:0'; 'cuda' is the first); opens the device when nobody
  // holds it. Throws FailureException.
  static std::shared_ptr<DeviceExecutor> acquire(const std::string& name);
  // Why a device of this process is lost; ok for every other.
  static Failure loss_of(const std::string& device_id);

  DeviceExecutor(const SeBackend* backend, int32_t index, std::string device_id);
  ~DeviceExecutor();
  DeviceExecutor(const DeviceExecutor&) = delete;
  DeviceExecutor& operator=(const DeviceExecutor&) = delete;

  const std::string& device_id() const { return device_id_; }
  const SeBackend& backend() const { return *backend_; }
  SeDevice* device() const { return device_; }
  // Device pointers are pointers of this process.
  bool has_host_memory() const { return is_host_; }
  // A row's bits never depend on the rows beside it, whatever a layer's options say.
  bool is_batch_invariant() const { return is_batch_invariant_; }

  // body(backend, device, &status) → SeCode, as a failure. Nothing is called on a lost device.
  template <typename Body>
  Failure call(Body&& body) {
    Failure lost = loss();
    if (!lost.is_ok()) return lost;
    SeStatus status = {};
    const int32_t code = body(*backend_, device_, &status);
    return note(Failure::from(status, code));
  }
  // A step of a run, which knows its device: body(backend, &status). Throws FailureException.
  template <typename Body>
  void step(const Body& body) {
    throw_if_failed(call([&](const SeBackend& backend, SeDevice*, SeStatus* status) {
      return body(backend, status);
    }));
  }
  Failure loss() const;  // ok while the device works

  // Queues behind all tasks before it. Its `completions` hears kDone when it has run, and until then
  // somebody else holds the task too: it must not be destroyed on the executor's own thread.
  void submit(std::shared_ptr<DeviceTask> task);
  // Takes a waiting task out, or asks a running one to stop.
  CancelResult cancel(const DeviceTask& task);
  // Drops the owner's waiting tasks, stops its running ones and returns when no thread holds any of
  // them.
  void drop_all(const void* owner);

  // Runs `task` on the device's thread, before all that wait, and returns when it has ended.
  // `is_wanted` is asked now and then on the calling thread, and never during the call of another:
  // once it says no, a waiting task is dropped (false), a running one is told to stop.
  template <typename IsWanted>
  bool run_watched(const std::shared_ptr<DeviceTask>& task, IsWanted&& is_wanted) {
    const Watched watched(*this, task);
    while (!watched.wait()) {
      if (!is_wanted() && cancel(*task) == CancelResult::kDropped) return false;
    }
    return true;
  }

  // Runs `body` on the calling thread while nothing else runs on the device; waiting tasks let it
  // pass.
  template <typename Body>
  void run_exclusive(Body&& body) {
    const Exclusive hold(*this);
    body();
  }

  // Memory of the device, and a layer that was opened on it, that nobody will use again: freed now
  // when nothing runs, else when the running task has ended. Any thread, the garbage collector's
  // included.
  void discard(SeLayer* layer, void* data, uint64_t bytes, bool is_pinned = false) noexcept;

  // Layers count themselves: without any the workspace is given back.
  void add_layer();
  void remove_layer() noexcept;
  // At least `bytes`, contents arbitrary. Only while running on the device.
  Failure reserve_workspace(uint64_t bytes, void** data, uint64_t* held_bytes);
  // The threads that read experts for the device's cached layers, which hold them.
  std::shared_ptr<ReaderPool> reader_pool();
  uint64_t workspace_bytes() const { return workspace_bytes_.load(std::memory_order_relaxed); }

 private:
  class Exclusive {
   public:
    explicit Exclusive(DeviceExecutor& executor);
    ~Exclusive();

   private:
    DeviceExecutor& executor_;
  };

  // A task at the head of the queue, whose end a thread waits for.
  class Watched {
   public:
    Watched(DeviceExecutor& executor, const std::shared_ptr<DeviceTask>& task);
    // Waits for a while. True: the task has ended.
    bool wait() const;

   private:
    struct End;
    std::shared_ptr<End> end_;
  };

  struct Discarded {
    SeLayer* layer;
    void* data;
    uint64_t bytes;
    bool is_pinned;
  };

  void enqueue(std::shared_ptr<DeviceTask> task, bool at_head);
  void thread_main();
  // Waits where calls that will soon be made would find room in the next turn. Under the lock, which
  // it gives up meanwhile.
  void await_company(std::unique_lock<std::mutex>* lock);
  bool has_room_for_more();
  // The tasks of the next turn, out of the queue. Under the lock.
  DeviceTasks take_turn();
  // Under the lock.
  template <typename IsMeant>
  void stop(IsMeant&& is_meant);
  void end_busy() noexcept;
  void free_discarded(const Discarded& item) noexcept;
  Failure note(Failure failure);
  void prepare_for_exit();
  static void stop_all_at_exit();

  const SeBackend* const backend_;
  const std::string device_id_;
  SeDevice* device_ = nullptr;
  bool is_host_ = false;
  bool is_batch_invariant_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<DeviceTask>> queue_;
  std::thread thread_;                // started by the first submit
  std::vector<DeviceTask*> running_;  // the tasks of the turn
  std::atomic<int32_t> all_cancelled_{0};
  Company company_;
  size_t awaited_ = 0;  // tasks without which the thread need not be woken
  bool busy_ = false;   // the thread or an Exclusive has the device
  int exclusive_waiting_ = 0;
  bool stop_ = false;
  std::vector<Discarded> discarded_;
  std::atomic<bool> is_lost_{false};

  std::mutex readers_mutex_;
  std::weak_ptr<ReaderPool> readers_;

  std::mutex workspace_mutex_;
  int num_layers_ = 0;
  void* workspace_ = nullptr;
  std::atomic<uint64_t> workspace_bytes_{0};
};

}  // namespace sparse_experts::engine
