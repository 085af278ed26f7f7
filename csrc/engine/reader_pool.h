// Threads that read experts, shared by the cached layers of a device: one call of a device runs at a
// time, so their number does not grow with the layers. Each keeps its scratch memory. While no call has
// work for them they read ahead.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/ahead_reads.h"
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

  AheadReads& ahead() { return ahead_; }
  // Reads ahead on so many threads, once no call has work for any. Throws as begin() does.
  void read_ahead(size_t num_threads, std::vector<AheadRead> reads);

 private:
  void start_threads(size_t num_threads);
  void thread_main(size_t index);

  AheadReads ahead_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::thread> threads_;
  std::function<void(ReadScratch&)> work_;
  uint64_t round_ = 0;     // of work_
  size_t num_wanted_ = 0;  // threads of this round: those of the lowest numbers
  size_t num_running_ = 0;
  size_t num_ahead_ = 0;  // threads that read ahead: those of the lowest numbers
  bool stop_ = false;
};

}  // namespace sparse_experts::engine
