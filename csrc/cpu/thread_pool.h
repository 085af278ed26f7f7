// Worker threads of the process: one pool for all CPU devices, apart from libuv's.
//
// parallel_for gives each participant a share of following task numbers, because tasks that follow
// each other read weights that follow each other in memory, which prefetchers of a core expect. Who
// is done takes half of what another has left. The caller works too. Workers join a run by taking a
// place in `state_`; when the tasks are all taken the caller closes the run and waits only for those
// that joined, so a worker that wakes late costs nothing. Which thread runs a task is not defined:
// tasks must not depend on it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
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

  // Runs tasks 0 .. num_tasks-1, fewer than 2^32, on at most max_threads participants and returns when all ended.
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
  // Tasks that a participant has left: [63..32] the first, [31..0] behind the last. Its owner takes
  // from the front, others from the back. A task is never put back, so a value never returns.
  struct alignas(64) Share {
    std::atomic<uint64_t> tasks{0};
  };

  void worker_main();
  void work(uint64_t participant);
  static int64_t take_first(Share* share);
  bool take_over(uint64_t participant);

  // A run: written before state_ is published, read by those that joined.
  TaskFunction function_ = nullptr;
  void* context_ = nullptr;
  const int32_t* cancel_ = nullptr;
  uint64_t num_shares_ = 0;
  // One per thread that exists, the caller's first.
  std::unique_ptr<Share[]> shares_ = std::make_unique<Share[]>(1);

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
