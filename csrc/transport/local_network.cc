#include "transport/local_network.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "transport/guarded.h"

namespace sparse_experts::transport {
namespace {

// splitmix64 of a message's place: the same whichever thread sends first.
uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

}  // namespace

LocalNetwork::Shared::Shared(int32_t num_ranks, const LocalFaults& faults)
    : faults_(faults), ranks_(static_cast<size_t>(num_ranks)) {
  for (Rank& rank : ranks_) {
    rank.peers.resize(ranks_.size(), SE_PEER_UNKNOWN);
    rank.sent.resize(ranks_.size(), 0);
    rank.last_due.resize(ranks_.size());
  }
}

void LocalNetwork::Shared::open(int32_t rank, uint64_t max_message_bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Rank& own = of(rank);
  own.max_message_bytes = max_message_bytes;
  if (own.is_open) refuse("transport: rank " + std::to_string(rank) + " is open already");
  own.is_open = true;
}

void LocalNetwork::Shared::connect(int32_t rank, int32_t peer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  int32_t& state = of(rank).peers[static_cast<size_t>(peer)];
  if (state != SE_PEER_UNKNOWN)
    refuse("transport: peer " + std::to_string(peer) + " is connected already");
  state = SE_PEER_CONNECTED;
  if (of(peer).is_gone) lose(rank, peer);
}

uint64_t LocalNetwork::Shared::send(int32_t rank, int32_t peer, const void* data, uint64_t bytes) {
  MessageMemory copy = allocate_message(bytes);
  std::memcpy(copy.get(), data, bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  Rank& own = of(rank);
  const uint64_t ticket = ++last_ticket_;
  const bool is_there = own.peers[static_cast<size_t>(peer)] == SE_PEER_CONNECTED;
  own.events.push_back(
      {SE_EVENT_SENT, peer, ticket, is_there ? SE_TRANSPORT_OK : SE_TRANSPORT_PEER_LOST});
  own.changed.notify_all();
  if (!is_there) return ticket;
  deliver(rank, peer, std::move(copy), bytes);
  return ticket;
}

SeTransportMessage LocalNetwork::Shared::receive(int32_t rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Rank& own = of(rank);
  if (own.arrived.empty()) return {};
  Underway message = std::move(own.arrived.front());
  own.arrived.pop_front();
  void* data = message.data.release();
  return {message.from, data, message.bytes, data};
}

SeTransportEvent LocalNetwork::Shared::poll(int32_t rank, int64_t timeout_ns) {
  const Clock::time_point end = Clock::now() + std::chrono::nanoseconds(timeout_ns);
  std::unique_lock<std::mutex> lock(mutex_);
  Rank& own = of(rank);
  for (;;) {
    take_due(&own);
    if (!own.events.empty()) {
      const SeTransportEvent event = own.events.front();
      own.events.pop_front();
      return event;
    }
    if (std::exchange(own.is_woken, false) || Clock::now() >= end) return {};
    Clock::time_point next = end;
    if (!own.underway.empty()) next = std::min(next, own.underway.front().due);
    own.changed.wait_until(lock, next);
  }
}

void LocalNetwork::Shared::wake(int32_t rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  of(rank).is_woken = true;
  of(rank).changed.notify_all();
}

int32_t LocalNetwork::Shared::peer_state(int32_t rank, int32_t peer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return of(rank).peers[static_cast<size_t>(peer)];
}

void LocalNetwork::Shared::close(int32_t rank) {
  end(rank);
  const std::lock_guard<std::mutex> lock(mutex_);
  Rank& own = of(rank);
  own.events.clear();
  own.arrived.clear();
}

void LocalNetwork::Shared::end(int32_t rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Rank& own = of(rank);
  if (std::exchange(own.is_gone, true)) return;
  own.is_silent = true;
  own.underway.clear();
  for (int32_t other = 0; other < num_ranks(); ++other) lose(other, rank);
}

void LocalNetwork::Shared::silence(int32_t rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  of(rank).is_silent = true;
  of(rank).underway.clear();
}

void LocalNetwork::Shared::lose(int32_t rank, int32_t peer) {
  Rank& own = of(rank);
  int32_t& state = own.peers[static_cast<size_t>(peer)];
  if (state != SE_PEER_CONNECTED) return;
  state = SE_PEER_LOST;
  own.events.push_back({SE_EVENT_PEER_LOST, peer, 0, 0});
  own.changed.notify_all();
}

void LocalNetwork::Shared::deliver(int32_t rank, int32_t peer, MessageMemory data, uint64_t bytes) {
  Rank& own = of(rank);
  Rank& to = of(peer);
  const auto at = static_cast<size_t>(peer);
  const uint64_t number = own.sent[at]++;
  if (own.is_silent || to.is_silent) return;
  if (to.is_open && bytes > to.max_message_bytes) return lose(peer, rank);
  const uint64_t place = mix(faults_.seed ^ (static_cast<uint64_t>(rank) << 40) ^
                             (static_cast<uint64_t>(peer) << 20)) +
                         number;
  if (static_cast<int64_t>(mix(place) % 1000) < faults_.lost_per_thousand) return;
  Clock::time_point due = Clock::now();
  if (faults_.max_delay_ns > 0)
    due += std::chrono::nanoseconds(mix(~place) % static_cast<uint64_t>(faults_.max_delay_ns));
  if (!faults_.reorders) due = std::max(due, own.last_due[at]);
  own.last_due[at] = due;
  Underway message = {due, ++order_, rank, bytes, std::move(data)};
  const auto behind = std::upper_bound(to.underway.begin(), to.underway.end(), message);
  to.underway.insert(behind, std::move(message));
  to.changed.notify_all();
}

void LocalNetwork::Shared::take_due(Rank* own) {
  const Clock::time_point now = Clock::now();
  auto message = own->underway.begin();
  for (; message != own->underway.end() && message->due <= now; ++message) {
    own->events.push_back({SE_EVENT_MESSAGE, message->from, 0, 0});
    own->arrived.push_back(std::move(*message));
  }
  own->underway.erase(own->underway.begin(), message);
}

LocalNetwork::LocalNetwork(int32_t num_ranks, const LocalFaults& faults)
    : shared_(std::make_unique<Shared>(num_ranks, faults)) {}
LocalNetwork::~LocalNetwork() = default;
void LocalNetwork::kill(int32_t rank) { shared_->end(rank); }
void LocalNetwork::silence(int32_t rank) { shared_->silence(rank); }

}  // namespace sparse_experts::transport
