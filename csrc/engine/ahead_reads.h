// Experts that are read before a call asks for them, by reader threads that have nothing else to do. Who
// begins a call settles what is under way first: what it does not need ends at the next piece that is
// read, and what has not begun is dropped.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/failure.h"
#include "engine/matrix_reader.h"

namespace sparse_experts::engine {

class CachePool;

// An expert that a pool has given a slot.
struct AheadRead {
  std::shared_ptr<CachePool> pool;
  int32_t layer = 0;  // of the pool
  int32_t expert = 0;
  uint8_t* block = nullptr;
  // read(scratch, check): brings it there. On another thread; may throw. Nobody uses it once the layer
  // has left.
  std::function<void(ReadScratch& scratch, const std::function<void()>& check)> read;
};

class AheadReads {
 public:
  // They wait for a thread. What came into the same blocks before is forgotten.
  void add(std::vector<AheadRead> reads);
  bool has_waiting() const { return num_waiting_.load(std::memory_order_acquire) > 0; }
  // None waits, and none is read.
  bool is_idle();
  // Runs one that waits, if there is one.
  void work(ReadScratch& scratch) noexcept;

  struct Settled {
    std::vector<AheadRead> arrived;   // of the layer
    std::vector<AheadRead> underway;  // of the layer, and needed
    std::vector<AheadRead> dropped;   // of any
  };
  // A call of the pool's layer needs `experts`, which rise: all other reads end now. Only while running on
  // the device.
  Settled settle(const CachePool* pool, int32_t layer, const std::vector<int32_t>& experts);
  // Waits for one that was under way. Throws what its read threw.
  void await(const AheadRead& read);
  // The layer goes: nothing of it is read any more. Any thread.
  void leave(const CachePool* pool, int32_t layer) noexcept;

 private:
  enum class State { kWaiting, kReading, kArrived, kFailed };
  struct Entry {
    AheadRead read;
    State state = State::kWaiting;
    std::atomic<bool> stop{false};
    Failure failure;
  };
  using Entries = std::list<std::shared_ptr<Entry>>;

  static bool is_of(const Entry& entry, const CachePool* pool, int32_t layer) {
    return entry.read.pool.get() == pool && entry.read.layer == layer;
  }
  void await_stopped(std::unique_lock<std::mutex>* lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<int> num_waiting_{0};
  Entries entries_;  // in the order in which they are read
};

}  // namespace sparse_experts::engine
