// Worker threads of the process: one pool for all CPU devices, apart from libuv's.
//
// parallel_for hands out task numbers from one atomic counter, in rising order; the caller works
// too. Workers join a run by taking a place in `state_`; when the tasks are all taken the caller
// closes the run and waits only for those that joined, so a worker that wakes late costs nothing.
// Which thread runs a task is not defined: tasks must not depend on it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace sparse_experts::cpu {

class ThreadPool {
 public:
  // Body of a task. Must not throw.
  using TaskFunction = void (*)(void* context, int64_t task);

  ThreadPool() = default;
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Starts workers until `num_threads` participants exist, the caller of a run included. Fewer when
  // the system refuses threads.
  void grow(int num_threads);
  int num_threads();

  // Runs tasks 0 .. num_tasks-1 on at most max_threads participants and returns when all ended.
  // Once *cancel is not 0 no further task begins (cancel may be null). Callable from any thread;
  // concurrent runs queue. Not reentrant from a task.
  void run(int64_t num_tasks, int max_threads, const int32_t* cancel, TaskFunction function,
           void* context);

  template <typename Body>
  void parallel_for(int64_t num_tasks, int max_threads, const int32_t* cancel, Body&& body) {
    using Callable = std::remove_reference_t<Body>;
    auto call = [](void* context, int64_t task) { (*static_cast<Callable*>(context))(task); };
    run(num_tasks, max_threads, cancel, call, &body);
  }

 private:
  void worker_main();
  void work();

  // A run: written before state_ is published, read by those that joined.
  TaskFunction function_ = nullptr;
  void* context_ = nullptr;
  const int32_t* cancel_ = nullptr;
  int64_t num_tasks_ = 0;
  alignas(64) std::atomic<int64_t> next_task_{0};

  // [63..32] number of the run, [31] closed, [30..16] places, [15..0] workers that joined.
  alignas(64) std::atomic<uint64_t> state_{uint64_t{1} << 31};
  alignas(64) std::atomic<uint32_t> finished_{0};

  std::mutex run_mutex_;  // one run at a time
  std::mutex sleep_mutex_;
  std::condition_variable wake_workers_;
  std::condition_variable wake_caller_;
  bool stop_ = false;
  std::vector<std::thread> workers_;  // under run_mutex_
};

// The process's pool lives from the first acquire to the last release. `num_threads` participants
// are asked for.
ThreadPool* acquire_thread_pool(int num_threads);
void release_thread_pool();

}  // namespace sparse_experts::cpu
