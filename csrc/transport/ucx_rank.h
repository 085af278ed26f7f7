// One rank's worker of UCX. Whoever polls is the only thread that calls UCX; others leave commands, and
// the signal that it knows for that.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "transport/message_memory.h"
#include "transport/transport.h"
#include "transport/ucx_library.h"

namespace sparse_experts::transport::ucx {

class Rank {
 public:
  // Throws TransportError.
  explicit Rank(const SeTransportOptions& options);
  ~Rank();
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  const SeTransportOptions& options() const { return options_; }
  const std::vector<uint8_t>& address() const { return address_; }

  // Any thread.
  void connect(int32_t peer, const void* address, uint64_t bytes);
  uint64_t send(int32_t peer, const void* data, uint64_t bytes);
  void cancel(uint64_t ticket);
  void wake();
  int32_t state(int32_t peer) const { return peers_[static_cast<size_t>(peer)].state; }

  // Who polls.
  SeTransportEvent poll(int64_t timeout_ns);
  SeTransportMessage receive();

 private:
  using Clock = std::chrono::steady_clock;

  struct Peer {
    Rank* rank = nullptr;
    int32_t number = 0;
    std::atomic<int32_t> state{SE_PEER_UNKNOWN};
    Endpoint endpoint = nullptr;
    bool is_to_close = false;
  };
  struct Command {
    enum Kind { kConnect, kSend, kCancel };
    Kind kind = kSend;
    int32_t peer = 0;
    uint64_t ticket = 0;
    const void* data = nullptr;
    uint64_t bytes = 0;
    std::vector<uint8_t> address;
  };
  struct Send {
    Rank* rank;
    uint64_t ticket;
    int32_t peer;
    void* request;
  };
  struct Receive {
    Rank* rank;
    int32_t peer;
    uint64_t bytes;
    MessageMemory data;
    void* request;
  };

  void open_worker();
  void release() noexcept;
  void close_endpoints();
  void submit(Command command);
  void run_commands();
  void run(const Command& command);
  void start_connect(const Command& command);
  void start_send(const Command& command);
  void take_messages();
  void start_receive(int32_t peer, uint64_t bytes, Message message);
  void close_lost();
  void lose(int32_t peer);
  void end_send(uint64_t ticket, Status status);
  void end_receive(Receive* receive, Status status);
  // What UCX calls from inside of progress: nothing may be thrown through it.
  static void on_sent(void* request, Status status, void* user_data);
  static void on_received(void* request, Status status, const ReceivedInfo* info, void* user_data);
  static void on_error(void* argument, Endpoint endpoint, Status status);

  const SeTransportOptions options_;
  const std::string interface_name_;
  const Library& ucx_;
  Context context_ = nullptr;
  Worker worker_ = nullptr;
  int descriptor_ = -1;
  std::vector<uint8_t> address_;
  std::vector<Peer> peers_;

  std::mutex mutex_;
  std::deque<Command> commands_;
  uint64_t last_ticket_ = 0;
  std::atomic<bool> is_woken_{false};

  // Of the thread that polls.
  std::deque<SeTransportEvent> events_;
  std::deque<SeTransportMessage> arrived_;
  std::unordered_map<uint64_t, std::unique_ptr<Send>> sends_;
  std::unordered_map<Receive*, std::unique_ptr<Receive>> receives_;
  bool is_out_of_memory_ = false;
};

}  // namespace sparse_experts::transport::ucx
