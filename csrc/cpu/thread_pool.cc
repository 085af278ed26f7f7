#include "cpu/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <system_error>

namespace sparse_experts::cpu {
namespace {

constexpr uint64_t kClosed = uint64_t{1} << 31;
constexpr uint64_t kJoinedMask = 0xffff;
constexpr int kPlacesShift = 16;
constexpr uint64_t kPlacesMask = 0x7fff;
constexpr int kRunShift = 32;
constexpr int kMaxThreads = 4096;
// How long a thread looks before it sleeps: longer than it takes to wake one (20 to 50 microseconds
// in a virtual machine), so that the phases of a forward, and the forwards of a loop, find it
// awake.
constexpr std::chrono::microseconds kSpinTime{60};
constexpr int kPausesPerLook = 16;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks until the condition holds or the time is over; true when it holds.
template <typename Condition>
bool spin_until(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (condition()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return condition();
}

uint64_t share_of(uint64_t first, uint64_t end) { return first << 32 | end; }
uint64_t first_of(uint64_t tasks) { return tasks >> 32; }
uint64_t end_of(uint64_t tasks) { return tasks & 0xffffffffu; }

bool is_cancelled(const int32_t* cancel) {
  return cancel != nullptr && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

}  // namespace

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(sleep_mutex_);
    stop_ = true;
  }
  wake_workers_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::grow(int num_threads) {
  std::lock_guard<std::mutex> lock(run_mutex_);
  const size_t wanted = static_cast<size_t>(std::clamp(num_threads, 1, kMaxThreads) - 1);
  try {
    while (workers_.size() < wanted) workers_.emplace_back(&ThreadPool::worker_main, this);
  } catch (const std::system_error&) {
    // The system refuses more threads: the pool works with those it has.
  }
  shares_ = std::make_unique<Share[]>(workers_.size() + 1);
}

int ThreadPool::num_threads() {
  std::lock_guard<std::mutex> lock(run_mutex_);
  return static_cast<int>(workers_.size()) + 1;
}

// -1 when none is left.
int64_t ThreadPool::take_first(Share* share) {
  uint64_t tasks = share->tasks.load(std::memory_order_relaxed);
  while (first_of(tasks) < end_of(tasks)) {
    if (share->tasks.compare_exchange_weak(tasks, share_of(first_of(tasks) + 1, end_of(tasks)),
                                           std::memory_order_relaxed))
      return static_cast<int64_t>(first_of(tasks));
  }
  return -1;
}

// Makes the back half of what another participant has left this one's share; false when none has any.
bool ThreadPool::take_over(uint64_t participant) {
  for (uint64_t i = 1; i < num_shares_; ++i) {
    std::atomic<uint64_t>& victim = shares_[(participant + i) % num_shares_].tasks;
    uint64_t tasks = victim.load(std::memory_order_relaxed);
    while (first_of(tasks) < end_of(tasks)) {
      const uint64_t middle = first_of(tasks) + (end_of(tasks) - first_of(tasks)) / 2;
      if (!victim.compare_exchange_weak(tasks, share_of(first_of(tasks), middle),
                                        std::memory_order_relaxed))
        continue;
      shares_[participant].tasks.store(share_of(middle, end_of(tasks)), std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

void ThreadPool::work(uint64_t participant) {
  while (!is_cancelled(cancel_)) {
    const int64_t task = take_first(&shares_[participant]);
    if (task >= 0) {
      function_(context_, task);
    } else if (!take_over(participant)) {
      return;
    }
  }
}

void ThreadPool::run(int64_t num_tasks, int max_threads, const int32_t* cancel,
                     TaskFunction function, void* context) {
  if (num_tasks <= 0) return;
  if (num_tasks == 1 || max_threads <= 1) {  // no worker needed: do not queue behind other runs
    for (int64_t task = 0; task < num_tasks && !is_cancelled(cancel); ++task)
      function(context, task);
    return;
  }
  std::lock_guard<std::mutex> run_lock(run_mutex_);
  const int64_t most = std::min<int64_t>(max_threads, num_tasks) - 1;
  const uint64_t places = std::min<uint64_t>(workers_.size(), static_cast<uint64_t>(most));
  function_ = function;
  context_ = context;
  cancel_ = cancel;
  num_shares_ = places + 1;
  for (uint64_t i = 0; i < num_shares_; ++i) {
    const uint64_t tasks = static_cast<uint64_t>(num_tasks);
    shares_[i].tasks.store(share_of(tasks * i / num_shares_, tasks * (i + 1) / num_shares_),
                           std::memory_order_relaxed);
  }
  finished_.store(0, std::memory_order_relaxed);
  const uint64_t number = (state_.load(std::memory_order_relaxed) >> kRunShift) + 1;
  if (places > 0) {
    {
      // Under the mutex, so that no worker misses it between its last look and its sleep.
      std::lock_guard<std::mutex> lock(sleep_mutex_);
      state_.store((number << kRunShift) | (places << kPlacesShift), std::memory_order_release);
    }
    if (places == 1) {
      wake_workers_.notify_one();
    } else {
      wake_workers_.notify_all();
    }
  }
  work(0);
  if (places == 0) return;
  const uint64_t joined = state_.fetch_or(kClosed, std::memory_order_acq_rel) & kJoinedMask;
  const auto all_ended = [&] { return finished_.load(std::memory_order_acquire) == joined; };
  if (spin_until(all_ended)) return;
  std::unique_lock<std::mutex> lock(sleep_mutex_);
  wake_caller_.wait(lock, all_ended);
}

void ThreadPool::worker_main() {
  uint64_t last_run = state_.load(std::memory_order_acquire) >> kRunShift;
  // A run that was open when this worker started may still be joined.
  if ((state_.load(std::memory_order_acquire) & kClosed) == 0 && last_run > 0) --last_run;
  for (;;) {
    const auto is_new = [&] {
      const uint64_t state = state_.load(std::memory_order_acquire);
      return (state >> kRunShift) != last_run && (state & kClosed) == 0 &&
             (state & kJoinedMask) < ((state >> kPlacesShift) & kPlacesMask);
    };
    if (!spin_until(is_new)) {
      std::unique_lock<std::mutex> lock(sleep_mutex_);
      wake_workers_.wait(lock, [&] { return stop_ || is_new(); });
      if (stop_) return;
    }
    uint64_t state = state_.load(std::memory_order_acquire);
    bool joined = false;
    while (!joined && (state >> kRunShift) != last_run && (state & kClosed) == 0 &&
           (state & kJoinedMask) < ((state >> kPlacesShift) & kPlacesMask)) {
      joined = state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel);
    }
    if (!joined) continue;
    last_run = state >> kRunShift;
    work((state & kJoinedMask) + 1);  // as many had joined before
    {
      std::lock_guard<std::mutex> lock(sleep_mutex_);
      finished_.fetch_add(1, std::memory_order_release);
    }
    wake_caller_.notify_one();
  }
}

namespace {

std::mutex pool_mutex;
// Plain pointers: never destroyed at exit, when another thread may still be inside a run.
ThreadPool* pool = nullptr;
int pool_users = 0;

}  // namespace

ThreadPool* acquire_thread_pool(int num_threads) {
  std::lock_guard<std::mutex> lock(pool_mutex);
  if (pool == nullptr) pool = new ThreadPool();
  pool->grow(num_threads);
  ++pool_users;
  return pool;
}

void release_thread_pool() {
  std::lock_guard<std::mutex> lock(pool_mutex);
  if (--pool_users > 0) return;
  delete pool;
  pool = nullptr;
}

}  // namespace sparse_experts::cpu
