// What the ranks of a LocalNetwork share.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "transport/local.h"
#include "transport/message_memory.h"

namespace sparse_experts::transport {

// Everything of all ranks, under one mutex: a network of a process is no bottleneck. Those of its
// functions that take a rank and a peer expect both to be there.
class LocalNetwork::Shared {
 public:
  using Clock = std::chrono::steady_clock;

  Shared(int32_t num_ranks, const LocalFaults& faults);

  int32_t num_ranks() const { return static_cast<int32_t>(ranks_.size()); }

  // What a rank's table does.
  void open(int32_t rank, uint64_t max_message_bytes);
  void connect(int32_t rank, int32_t peer);
  uint64_t send(int32_t rank, int32_t peer, const void* data, uint64_t bytes);
  SeTransportMessage receive(int32_t rank);
  SeTransportEvent poll(int32_t rank, int64_t timeout_ns);
  void wake(int32_t rank);
  int32_t peer_state(int32_t rank, int32_t peer);
  void close(int32_t rank);

  // Nobody has it as a peer any more.
  void end(int32_t rank);
  void silence(int32_t rank);

 private:
  struct Underway {
    Clock::time_point due;
    uint64_t order;
    int32_t from;
    uint64_t bytes;
    MessageMemory data;

    bool operator<(const Underway& other) const {
      return due != other.due ? due < other.due : order < other.order;
    }
  };
  struct Rank {
    bool is_open = false;
    bool is_gone = false;  // killed or closed
    bool is_silent = false;
    bool is_woken = false;
    uint64_t max_message_bytes = 0;
    std::vector<int32_t> peers;  // SePeerState, as the rank sees them
    std::vector<uint64_t> sent;  // messages, by peer
    std::vector<Clock::time_point> last_due;
    std::vector<Underway> underway;  // to this rank, the first one first
    std::deque<SeTransportEvent> events;
    std::deque<Underway> arrived;
    std::condition_variable changed;
  };

  Rank& of(int32_t rank) { return ranks_[static_cast<size_t>(rank)]; }
  void lose(int32_t rank, int32_t peer);
  void deliver(int32_t rank, int32_t peer, MessageMemory data, uint64_t bytes);
  static void take_due(Rank* own);

  const LocalFaults faults_;
  std::mutex mutex_;
  std::vector<Rank> ranks_;
  uint64_t last_ticket_ = 0;
  uint64_t order_ = 0;
};

}  // namespace sparse_experts::transport
