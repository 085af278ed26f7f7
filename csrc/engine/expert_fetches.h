// The experts that a call waits for: read by several threads in the order of the list, and handed to
// the call's thread as they arrive.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "engine/failure.h"
#include "engine/matrix_reader.h"

namespace sparse_experts::engine {

struct ExpertFetch {
  int32_t expert = 0;
  uint8_t* block = nullptr;  // where it goes
  bool is_ring = false;      // others of the list go there before it, or behind it
  bool passes = false;       // the block is given back when it has been computed
  // Of the host tier, where it lies or goes first; null: it goes straight to its block.
  uint8_t* host_block = nullptr;
  bool is_in_host = false;  // it lies there already
};

class ExpertFetches {
 public:
  // read(fetch, scratch, check): brings one expert into its block; runs on several threads, and may
  // throw. Lists and function outlive the fetches.
  using Read = std::function<void(const ExpertFetch& fetch, ReadScratch& scratch,
                                  const std::function<void()>& check)>;
  ExpertFetches(const std::vector<ExpertFetch>* fetches, Read read);

  // What each reading thread runs.
  void work(ReadScratch& scratch) noexcept;

  // Those that have arrived since the last call, as indices into the list; at least one, or none once
  // all have been taken. Throws what a read threw; CANCELLED where *cancel is set.
  std::vector<size_t> take(const int32_t* cancel);
  // A block of the ring may be filled again.
  void give_back(uint8_t* block);
  // Reads end as soon as they can, and no other begins.
  void stop();

  std::chrono::nanoseconds waited() const { return waited_; }

 private:
  bool next(size_t* index);
  void fail(size_t index);

  const std::vector<ExpertFetch>& fetches_;
  const Read read_;
  const std::function<void()> check_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<size_t> waiting_;  // for their blocks
  std::vector<uint8_t*> taken_;  // blocks of the ring that a fetch has and has not given back
  std::vector<size_t> arrived_;
  size_t next_ = 0;
  size_t num_taken_ = 0;
  size_t failed_ = 0;  // of failure_: the first of those that were seen to fail
  Failure failure_;
  std::chrono::nanoseconds waited_{0};
};

}  // namespace sparse_experts::engine
