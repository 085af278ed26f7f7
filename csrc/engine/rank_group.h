// The ranks that share the experts of layers, as one of them sees it: its transport, with a thread of its
// own, the calls of this rank that wait for peers, and what peers ask of this one. A rank answers whether
// or not it has calls itself, and a thread of JavaScript that is busy keeps nobody waiting.
//
// Every call ends: with its result, with the failure of a peer that it needs, or at its deadline. A call
// that needs no lost peer goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/expert_answer.h"
#include "engine/ranked_forward.h"
#include "transport/messages.h"
#include "transport/transport.h"

namespace sparse_experts::engine {

struct RankOptions {
  int32_t rank = 0;
  int32_t size = 1;
  uint64_t group = 0;  // that all ranks agreed on
  uint32_t epoch = 0;
  std::chrono::nanoseconds timeout = std::chrono::seconds(10);  // of a wave's answers
};

class RankGroup {
 public:
  // From here on the transport is the group's, and closed with it. Its peers are connected. Nothing is
  // heard or answered before start(): peers may ask as soon as they are connected, and the layers that
  // they ask for have to be here.
  RankGroup(const RankOptions& options, const SeTransportTable& table, SeTransport* transport);
  // Calls that have not ended do so, as cancelled.
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  void start();

  // A layer by the number that all ranks know it by. `owner_of`: [num_experts], the rank of each expert;
  // the layer holds those of this rank. Throws INVALID_ARGUMENT.
  void add_layer(uint32_t number, std::shared_ptr<LayerState> layer, std::vector<int32_t> owner_of);
  // Requests for it are refused from here on; what runs ends.
  void remove_layer(uint32_t number);

  // A call of one of its layers. Throws INVALID_ARGUMENT where the layer is none.
  void submit(uint32_t layer, std::shared_ptr<RankedForward> forward);
  // Its end comes soon, and peers that have not begun with its rows never do. One that has ended already
  // stays what it is.
  void cancel(const std::shared_ptr<RankedForward>& forward);

  struct State {
    std::vector<int32_t> lost;  // peers
    uint64_t num_refused = 0;   // messages that broke a rule
    std::string last_refusal;   // why
    uint64_t num_requests = 0;  // of peers, that broke none
    uint64_t num_answered = 0;  // of these, also with a failure
    uint64_t num_runs = 0;      // that computed these: requests that waited run as one
    uint64_t num_dropped = 0;   // of these, because nobody needed the answer any more
  };
  State state() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Forward = std::shared_ptr<RankedForward>;
  using Buffer = std::vector<uint8_t>;

  struct Layer {
    std::shared_ptr<LayerState> state;
    std::shared_ptr<const std::vector<int32_t>> owner_of;
  };
  struct Call {
    Forward forward;
    uint32_t number = 0;  // of the layer
    std::shared_ptr<const std::vector<int32_t>> owner_of;
  };
  // On its way through a device's queue: a step of a call, or an answer.
  struct Queued {
    std::shared_ptr<DeviceTask> task;
    std::shared_ptr<DeviceExecutor> executor;
    RankedForward* forward = nullptr;
    std::shared_ptr<ExpertAnswer> answer;
    SeTransportMessage request = {};
    uint64_t call = 0;  // the peer's number of it
  };
  // A part of a wave whose rows have not come.
  struct Asked {
    RankedForward* forward = nullptr;
    size_t part = 0;
    int32_t peer = 0;
    uint32_t layer = 0;
    int64_t num_slots = 0;
    int64_t width = 0;
  };
  class Step;

  // Of the group's thread.
  void run();
  bool turn();
  int64_t poll_ns();
  void handle(const SeTransportEvent& event);
  void take_ended_tasks();
  void expire();
  void post_ended();

  // Under the lock.
  void queue(Queued queued);
  void queue_step(RankedForward* forward);
  void end_task(Queued queued);
  void drop_task(uint64_t id);
  void advance(RankedForward* forward);
  void fail(RankedForward* forward, const Failure& failure);
  void fail_all(const Failure& failure);
  void forget_asked(RankedForward* forward);
  void finish(RankedForward* forward);
  void lose(int32_t peer);
  void break_down(const std::string& why);
  void take_message();
  void take_request(const transport::Envelope& envelope, SeTransportMessage message);
  void take_answer(const transport::Envelope& envelope, SeTransportMessage message);
  void take_cancel(const transport::Envelope& envelope);
  void refuse(const transport::Envelope& envelope, const Status& why);
  void note_refusal(const Status& why);
  Failure send(int32_t peer, Buffer message);
  void release(SeTransportMessage* message);
  transport::Envelope envelope_of(transport::MessageKind kind, uint32_t layer, uint64_t call) const;

  // Of a step: sends the parts of a wave. Throws FailureException.
  void ask(RankedForward& forward);

  const RankOptions options_;
  const SeTransportTable& table_;
  SeTransport* const transport_;
  RunWorkspaces workspaces_;
  const std::shared_ptr<CompletionQueue> completions_;

  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, Layer> layers_;
  std::unordered_map<RankedForward*, Call> calls_;
  std::unordered_map<uint64_t, Queued> tasks_;
  std::unordered_map<uint64_t, Asked> asked_;   // by number of the request
  std::unordered_map<uint64_t, Buffer> sends_;  // by ticket
  std::vector<Forward> ended_;                  // whose owners have not heard of it
  uint64_t last_task_ = 0;
  uint64_t last_request_ = 0;
  State state_;
  bool is_stopping_ = false;
  bool is_broken_ = false;

  std::thread thread_;
};

}  // namespace sparse_experts::engine
