// Threads that read experts, shared by the cached layers of a device: one call of a device runs at a
// time, so their number does not grow with the layers. Each keeps its scratch memory.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/matrix_reader.h"

namespace sparse_experts::engine {

class ReaderPool {
 public:
  ReaderPool() = default;
  ~ReaderPool();
  ReaderPool(const ReaderPool&) = delete;
  ReaderPool& operator=(const ReaderPool&) = delete;

  // Runs `work`, which must not throw, on `num_threads` threads at once. wait() follows before the next
  // begin(). Throws where the system refuses the first thread; fewer threads than were asked for do
  // the same work otherwise.
  void begin(size_t num_threads, std::function<void(ReadScratch&)> work);
  // Until all of them have left it.
  void wait();

 private:
  void thread_main(size_t index);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::thread> threads_;
  std::function<void(ReadScratch&)> work_;
  uint64_t round_ = 0;     // of work_
  size_t num_wanted_ = 0;  // threads of this round: those of the lowest numbers
  size_t num_running_ = 0;
  bool stop_ = false;
};

}  // namespace sparse_experts::engine
