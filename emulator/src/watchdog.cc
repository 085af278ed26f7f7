// Ends kernels that do not end. One thread looks at the running blocks a few times a second; when
// one has taken more processor time than its limit (a loaded or stopped machine is no livelock)
//   1. it raises the block's flag:
//      whatever the kernel next calls of the engine reports the livelock
//   2. if the kernel calls nothing (a loop on plain memory), a signal does: its handler may leave
//      the kernel in the middle, because a kernel's own code holds no lock of anybody
// The handler is installed only at that moment, so a host program's signals stay as they are.
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

#include "block.h"

namespace simt::detail {
namespace {

constexpr int kSignal = SIGURG;  // nobody dies of it if it comes too late

struct Watched {
  Block* block;
  pthread_t thread;
  clockid_t clock;  // the thread's processor time
  int64_t limit_ns;
  uint64_t expired_run;  // the run whose flag was raised, and how often we looked since
  int looks;
};

// Never destroyed: the watching thread outlives main.
struct Watchdog {
  std::mutex mutex;
  std::vector<Watched> watched;
  bool started = false;
};

Watchdog& watchdog() {
  static Watchdog* const kept = new Watchdog;
  return *kept;
}

int64_t processor_time_ns(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return static_cast<int64_t>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

void on_signal(int) {
  Thread* thread = self_or_null();
  if (thread == nullptr || !thread->in_kernel) return;
  Block* block = thread->block;
  if (!block->expired.load(std::memory_order_relaxed)) return;
  sigset_t unblocked;
  sigemptyset(&unblocked);
  sigaddset(&unblocked, kSignal);
  pthread_sigmask(SIG_UNBLOCK, &unblocked, nullptr);
  thread->in_kernel = false;
  block->fail_livelock(thread);
}

void look(Watched* entry) {
  Block* block = entry->block;
  const int64_t started = block->started_ns.load(std::memory_order_acquire);
  const uint64_t run = block->run_number.load(std::memory_order_relaxed);
  if (started == 0) return;
  if (processor_time_ns(entry->clock) - started < entry->limit_ns) return;
  if (entry->expired_run != run) {
    entry->expired_run = run;
    entry->looks = 0;
    block->expired.store(true, std::memory_order_relaxed);
    return;
  }
  if (++entry->looks < 2) return;
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(kSignal, &action, &before);
  pthread_kill(entry->thread, kSignal);
  // The signal is delivered at once to a thread that computes; one that is not scheduled now gets
  // it at the next look.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  sigaction(kSignal, &before, nullptr);
}

void watch_forever() {
  for (;;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const std::lock_guard<std::mutex> lock(watchdog().mutex);
    for (Watched& entry : watchdog().watched) look(&entry);
  }
}

}  // namespace

int64_t own_processor_time_ns() { return processor_time_ns(CLOCK_THREAD_CPUTIME_ID); }

void watch(Block* block, double timeout_seconds) {
  clockid_t clock = CLOCK_MONOTONIC;
  pthread_getcpuclockid(pthread_self(), &clock);
  const std::lock_guard<std::mutex> lock(watchdog().mutex);
  watchdog().watched.push_back(
      {block, pthread_self(), clock, static_cast<int64_t>(timeout_seconds * 1e9), 0, 0});
  if (!watchdog().started) {
    watchdog().started = true;
    std::thread(watch_forever).detach();
  }
}

void unwatch(Block* block) {
  const std::lock_guard<std::mutex> lock(watchdog().mutex);
  std::vector<Watched>& watched = watchdog().watched;
  watched.erase(std::remove_if(watched.begin(), watched.end(),
                               [&](const Watched& entry) { return entry.block == block; }),
                watched.end());
}

}  // namespace simt::detail
