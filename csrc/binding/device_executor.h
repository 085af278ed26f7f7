// One per device and process: the opened device, one thread that runs tasks in the order of
// submission, and the workspace that all forwards of the device share. Environments (main thread,
// worker_threads) that use the device share it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "backend/backend.h"
#include "binding/completion_queue.h"
#include "binding/errors.h"

namespace sparse_experts::binding {

class DeviceExecutor;

// Work for the executor's thread. It holds nothing of JavaScript.
class DeviceTask {
 public:
  virtual ~DeviceTask() = default;
  virtual void run(DeviceExecutor& executor) noexcept = 0;

  std::atomic<int32_t> cancel{0};
  const void* owner = nullptr;  // the environment
  uint64_t call_id = 0;
  std::shared_ptr<CompletionQueue> completions;
};

enum class CancelResult { kDropped, kStopping, kDone };

class DeviceExecutor {
 public:
  // The executor of 'cpu', 'cuda:0' …; opens the device when nobody holds it. Throws
  // FailureException.
  static std::shared_ptr<DeviceExecutor> acquire(const std::string& device_id);

  DeviceExecutor(const SeBackend* backend, int32_t index, std::string device_id);
  ~DeviceExecutor();
  DeviceExecutor(const DeviceExecutor&) = delete;
  DeviceExecutor& operator=(const DeviceExecutor&) = delete;

  const std::string& device_id() const { return device_id_; }
  const SeBackend& backend() const { return *backend_; }
  SeDevice* device() const { return device_; }
  // Device pointers are pointers of this process.
  bool has_host_memory() const { return device_id_ == "cpu"; }

  // Queues behind all tasks before it. Its `completions` hears kDone when it has run.
  void submit(std::shared_ptr<DeviceTask> task);
  // Takes a waiting task out, or asks the running one to stop.
  CancelResult cancel(const DeviceTask& task);
  // Drops the owner's waiting tasks, stops its running one and returns when no thread holds any of
  // them.
  void drop_all(const void* owner);

  // Runs `body` on the calling thread while nothing else runs on the device; waiting tasks let it
  // pass.
  template <typename Body>
  void run_exclusive(Body&& body) {
    const Exclusive hold(*this);
    body();
  }

  // Layers count themselves: without any the workspace is given back.
  void add_layer();
  void remove_layer();
  // At least `bytes`, contents arbitrary. Only while running on the device.
  Failure reserve_workspace(uint64_t bytes, void** data, uint64_t* held_bytes);
  uint64_t workspace_bytes() const { return workspace_bytes_.load(std::memory_order_relaxed); }

 private:
  class Exclusive {
   public:
    explicit Exclusive(DeviceExecutor& executor);
    ~Exclusive();

   private:
    DeviceExecutor& executor_;
  };

  void thread_main();
  void free_workspace();  // under workspace_mutex_
  void prepare_for_exit();
  static void stop_all_at_exit();

  const SeBackend* const backend_;
  const std::string device_id_;
  SeDevice* device_ = nullptr;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<DeviceTask>> queue_;
  std::thread thread_;  // started by the first submit
  DeviceTask* running_ = nullptr;
  bool busy_ = false;  // the thread or an Exclusive has the device
  int exclusive_waiting_ = 0;
  bool stop_ = false;

  std::mutex workspace_mutex_;
  int num_layers_ = 0;
  void* workspace_ = nullptr;
  std::atomic<uint64_t> workspace_bytes_{0};
};

}  // namespace sparse_experts::binding
