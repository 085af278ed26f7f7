// The thread pool: each task runs once, whoever takes it; a cancelled run begins no more of them.
#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "cpp/check.h"

namespace native_test {
namespace {

using sparse_experts::cpu::ThreadPool;

TEST_SUITE_BEGIN("thread pool");

using Counts = std::vector<std::atomic<int32_t>>;

bool all_are(const Counts& counts, int32_t expected) {
  return std::all_of(counts.begin(), counts.end(),
                     [&](const std::atomic<int32_t>& count) { return count.load() == expected; });
}

TEST_CASE("each task runs once, for any number of threads and of tasks") {
  for (const int num_threads : {1, 2, 3, 8}) {
    ThreadPool pool;
    pool.grow(num_threads);
    CHECK(pool.num_threads() == num_threads);
    for (const int64_t num_tasks : {1, 2, 3, 7, 8, 9, 64, 1000}) {
      for (const int max_threads : {1, 2, num_threads}) {
        Counts counts(static_cast<size_t>(num_tasks));
        pool.parallel_for(num_tasks, max_threads, nullptr, [&](int64_t task) { ++counts[task]; });
        CHECK(all_are(counts, 1));
      }
    }
  }
}

TEST_CASE("tasks that wait for others of another share are reached by whoever is free") {
  ThreadPool pool;
  pool.grow(3);
  constexpr int64_t kTasks = 90;
  for (int round = 0; round < 50; ++round) {
    // The first task of the first share ends when all others have: they are taken over.
    std::atomic<int64_t> ended{0};
    Counts counts(kTasks);
    std::atomic<bool> is_helped{true};
    pool.parallel_for(kTasks, 3, nullptr, [&](int64_t task) {
      if (task == 0) {
        // Workers may be asleep or refused; then this thread is alone and the others follow.
        for (int looks = 0; ended.load() < kTasks - 1; ++looks) {
          if (looks == 10000) {
            is_helped = false;
            break;
          }
          std::this_thread::yield();
        }
      }
      ++counts[task];
      ++ended;
    });
    CHECK(all_are(counts, 1));
    if (is_helped.load()) return;
  }
  // On a machine that never ran a worker meanwhile there is nothing to see.
}

TEST_CASE("a cancelled run begins no further task, and the next one is whole") {
  ThreadPool pool;
  pool.grow(4);
  constexpr int64_t kTasks = 4000;
  for (int round = 0; round < 20; ++round) {
    int32_t cancel = 0;
    Counts counts(kTasks);
    std::atomic<int64_t> begun{0};
    pool.parallel_for(kTasks, 4, &cancel, [&](int64_t task) {
      ++counts[task];
      if (++begun == 10) __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED);
    });
    // Each of the four may have been past its look at the flag.
    CHECK(begun.load() >= 10);
    CHECK(begun.load() < kTasks);
    CHECK(std::none_of(counts.begin(), counts.end(), [](const auto& count) { return count > 1; }));
    Counts next(100);
    pool.parallel_for(100, 4, nullptr, [&](int64_t task) { ++next[task]; });
    CHECK(all_are(next, 1));
  }
}

TEST_CASE("runs of several callers queue") {
  ThreadPool pool;
  pool.grow(3);
  constexpr int64_t kTasks = 500;
  std::vector<Counts> counts;
  for (int caller = 0; caller < 3; ++caller) counts.emplace_back(kTasks);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&, caller] {
      for (int run = 0; run < 20; ++run)
        pool.parallel_for(kTasks, 3, nullptr, [&](int64_t task) { ++counts[caller][task]; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const Counts& of_caller : counts) CHECK(all_are(of_caller, 20));
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
