// Calls of this rank and answers to its peers, between the devices' queues and the transport. Everything
// here runs under the group's lock, but for the steps themselves.
#include <iterator>
#include <string>
#include <utility>

#include "engine/rank_group.h"

namespace sparse_experts::engine {

// A step of a call as a task of its device.
class RankGroup::Step final : public DeviceTask {
 public:
  Step(RankGroup& group, RankedForward& forward, const Call& call)
      : group_(group), forward_(forward), owner_of_(call.owner_of) {}

  void run(DeviceExecutor& /*executor*/) noexcept override {
    forward_.step(group_.workspaces_, *owner_of_, group_.options_.rank,
                  [this] { group_.ask(forward_); });
  }

 private:
  RankGroup& group_;
  RankedForward& forward_;
  const std::shared_ptr<const std::vector<int32_t>> owner_of_;
};

void RankGroup::queue(Queued queued) {
  const uint64_t id = ++last_task_;
  const std::shared_ptr<DeviceTask> task = queued.task;
  const std::shared_ptr<DeviceExecutor> executor = queued.executor;
  task->completions = completions_;
  task->call_id = id;
  tasks_.emplace(id, std::move(queued));
  try {
    executor->submit(task);
  } catch (...) {
    tasks_.erase(id);
    throw;
  }
}

void RankGroup::queue_step(RankedForward* forward) {
  Queued queued;
  queued.task = std::make_shared<Step>(*this, *forward, calls_.at(forward));
  queued.executor = forward->layer()->shared_executor();
  queued.forward = forward;
  forward->is_running_ = true;
  try {
    queue(std::move(queued));
  } catch (...) {
    forward->is_running_ = false;
    throw;
  }
}

void RankGroup::end_task(Queued queued) {
  if (queued.forward != nullptr) {
    queued.forward->is_running_ = false;
    return advance(queued.forward);
  }
  const int32_t peer = queued.request.peer;
  release(&queued.request);
  Buffer answer = queued.answer->take_message();
  ++state_.num_answered;
  if (queued.answer->is_first()) ++state_.num_runs;
  // A peer that is lost needs none.
  if (!answer.empty()) send(peer, std::move(answer));
}

// What waits in a device's queue is taken out; what runs ends by itself, early.
void RankGroup::drop_task(uint64_t id) {
  const auto found = tasks_.find(id);
  if (found == tasks_.end()) return;
  if (found->second.executor->cancel(*found->second.task) != CancelResult::kDropped) return;
  Queued dropped = std::move(found->second);
  tasks_.erase(found);
  if (dropped.forward == nullptr) {
    ++state_.num_dropped;
    return release(&dropped.request);
  }
  dropped.forward->is_running_ = false;
  advance(dropped.forward);
}

void RankGroup::advance(RankedForward* forward) {
  if (forward->is_running_) return;
  if (forward->has_ended() || !forward->peer_failure_.is_ok()) return finish(forward);
  if (forward->num_unanswered_ == 0) queue_step(forward);
}

void RankGroup::fail(RankedForward* forward, const Failure& failure) {
  if (forward->peer_failure_.is_ok()) forward->peer_failure_ = failure;
  forward->cancel_.store(1, std::memory_order_relaxed);
  forget_asked(forward);
  advance(forward);
}

void RankGroup::fail_all(const Failure& failure) {
  std::vector<RankedForward*> forwards;
  for (const auto& [forward, call] : calls_) forwards.push_back(forward);
  for (RankedForward* forward : forwards) fail(forward, failure);
}

// Answers that still come are too late, and peers need not compute them.
void RankGroup::forget_asked(RankedForward* forward) {
  for (auto asked = asked_.begin(); asked != asked_.end();) {
    if (asked->second.forward != forward) {
      ++asked;
      continue;
    }
    try {
      send(asked->second.peer,
           transport::encode_cancel(
               envelope_of(transport::MessageKind::kCancel, asked->second.layer, asked->first)));
    } catch (...) {
      // Without memory for it the peer computes rows that nobody takes.
    }
    asked = asked_.erase(asked);
  }
  forward->num_unanswered_ = 0;
}

void RankGroup::finish(RankedForward* forward) {
  forget_asked(forward);
  for (SeTransportMessage& message : forward->messages_) release(&message);
  forward->messages_.clear();
  forward->end_run();
  const auto found = calls_.find(forward);
  ended_.push_back(std::move(found->second.forward));
  calls_.erase(found);
}

void RankGroup::lose(int32_t peer) {
  state_.lost.push_back(peer);
  std::vector<RankedForward*> needing;
  for (const auto& [number, asked] : asked_)
    if (asked.peer == peer) needing.push_back(asked.forward);
  for (RankedForward* forward : needing) {
    if (calls_.find(forward) == calls_.end()) continue;
    fail(forward,
         Failure::of_peer(ErrorCode::kPeerLost, peer, "Rank " + std::to_string(peer) + " is lost"));
  }
  std::vector<uint64_t> answers;
  for (const auto& [id, queued] : tasks_)
    if (queued.forward == nullptr && queued.request.peer == peer) answers.push_back(id);
  for (const uint64_t id : answers) drop_task(id);
}

void RankGroup::break_down(const std::string& why) {
  is_broken_ = true;
  note_refusal(Status(SE_INTERNAL, why));
  for (int32_t peer = 0; peer < options_.size; ++peer)
    if (peer != options_.rank) lose(peer);
}

}  // namespace sparse_experts::engine
