// What a rank sends to its peers and hears from them.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "engine/rank_group.h"

namespace sparse_experts::engine {

using transport::Envelope;
using transport::MessageKind;

Envelope RankGroup::envelope_of(MessageKind kind, uint32_t layer, uint64_t call) const {
  Envelope envelope;
  envelope.kind = kind;
  envelope.group = options_.group;
  envelope.epoch = options_.epoch;
  envelope.from = options_.rank;
  envelope.call = call;
  envelope.layer = layer;
  return envelope;
}

void RankGroup::release(SeTransportMessage* message) {
  if (message->owner != nullptr) table_.release(transport_, message);
}

Failure RankGroup::send(int32_t peer, Buffer message) {
  uint64_t ticket = 0;
  SeStatus status = {};
  const int32_t code =
      table_.send(transport_, peer, message.data(), message.size(), &ticket, &status);
  if (code != SE_TRANSPORT_OK)
    return Failure(
        code == SE_TRANSPORT_OUT_OF_MEMORY ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
        status.message);
  // The event of its end is handled under the lock that this function has.
  sends_.emplace(ticket, std::move(message));
  return {};
}

void RankGroup::ask(RankedForward& forward) {
  const std::vector<PeerPart>& parts = forward.split_.parts;
  const SeMoeLayer& layer = forward.layer()->layer();
  const int64_t width = layer.latent_size > 0 ? layer.latent_size : layer.hidden_size;
  uint32_t number = 0;
  uint64_t first = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    number = calls_.at(&forward).number;
    first = last_request_ + 1;
    last_request_ += parts.size();
  }
  std::vector<Buffer> requests;
  for (size_t p = 0; p < parts.size(); ++p)
    requests.push_back(
        transport::encode_request(envelope_of(MessageKind::kRequest, number, first + p),
                                  forward.args_.hidden, parts[p].tokens, parts[p].slots));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    throw_if_failed(forward.peer_failure_);
    for (SeTransportMessage& message : forward.messages_) release(&message);
    forward.messages_.assign(parts.size(), {});
    forward.rows_.assign(parts.size(), nullptr);
    forward.num_unanswered_ = parts.size();
    forward.deadline_ = Clock::now() + options_.timeout;
    for (size_t p = 0; p < parts.size(); ++p) {
      const int32_t peer = parts[p].owner;
      if (is_broken_ || table_.peer_state(transport_, peer) != SE_PEER_CONNECTED)
        throw_if_failed(Failure::of_peer(ErrorCode::kPeerLost, peer,
                                         "Rank " + std::to_string(peer) + " is lost"));
      asked_.emplace(first + p, Asked{&forward, p, peer, number,
                                      static_cast<int64_t>(parts[p].slots.size()), width});
      throw_if_failed(send(peer, std::move(requests[p])));
    }
  }
  // The thread has a deadline to think of.
  table_.wake(transport_);
}

void RankGroup::note_refusal(const Status& why) {
  ++state_.num_refused;
  state_.last_refusal = why.message();
}

void RankGroup::refuse(const Envelope& envelope, const Status& why) {
  note_refusal(why);
  send(envelope.from,
       transport::encode_refusal(envelope_of(MessageKind::kAnswer, envelope.layer, envelope.call),
                                 why.code(), why.message()));
}

void RankGroup::take_message() {
  SeTransportMessage message = {};
  SeStatus status = {};
  if (table_.recv(transport_, &message, &status) != SE_TRANSPORT_OK || message.owner == nullptr)
    return;
  Envelope envelope;
  const Status known = transport::decode_envelope(message.data, message.bytes,
                                                  {options_.group, options_.epoch, options_.size},
                                                  message.peer, &envelope);
  if (!known.is_ok()) {
    note_refusal(known);
    return release(&message);
  }
  switch (envelope.kind) {
    case MessageKind::kRequest:
      return take_request(envelope, message);
    case MessageKind::kAnswer:
      return take_answer(envelope, message);
    case MessageKind::kCancel:
      release(&message);
      take_cancel(envelope);
  }
}

void RankGroup::take_request(const Envelope& envelope, SeTransportMessage message) {
  const auto found = layers_.find(envelope.layer);
  Status status = Status::invalid("There is no layer " + std::to_string(envelope.layer));
  transport::RequestView request;
  if (found != layers_.end() && !is_stopping_) {
    const LayerState& layer = *found->second.state;
    transport::RequestLimits limits;
    limits.hidden_size = layer.layer().hidden_size;
    limits.top_k = layer.layer().routing.top_k;
    limits.max_rows = std::numeric_limits<int32_t>::max() / limits.top_k;
    limits.num_experts = layer.layer().experts.num_experts;
    limits.is_owned = layer.owned().data();
    status = transport::decode_request(message.data, message.bytes, limits, &request);
  }
  if (!status.is_ok()) {
    refuse(envelope, status);
    return release(&message);
  }
  Queued queued;
  queued.answer = std::make_shared<ExpertAnswer>(
      found->second.state, workspaces_, request,
      envelope_of(MessageKind::kAnswer, envelope.layer, envelope.call));
  queued.task = queued.answer;
  queued.executor = found->second.state->shared_executor();
  queued.request = message;
  queued.call = envelope.call;
  ++state_.num_requests;
  queue(std::move(queued));
}

void RankGroup::take_cancel(const Envelope& envelope) {
  const auto is_meant = [&](const auto& task) {
    const Queued& queued = task.second;
    return queued.forward == nullptr && queued.call == envelope.call &&
           queued.request.peer == envelope.from;
  };
  const auto found = std::find_if(tasks_.begin(), tasks_.end(), is_meant);
  if (found != tasks_.end()) drop_task(found->first);
}

void RankGroup::take_answer(const Envelope& envelope, SeTransportMessage message) {
  const auto found = asked_.find(envelope.call);
  // Too late, or of nothing that this rank has asked of that one.
  if (found == asked_.end() || found->second.peer != envelope.from) return release(&message);
  const Asked asked = found->second;
  asked_.erase(found);
  transport::AnswerView answer;
  const Status status =
      transport::decode_answer(message.data, message.bytes, asked.num_slots, asked.width, &answer);
  if (!status.is_ok() || answer.code != SE_OK) {
    release(&message);
    if (!status.is_ok()) note_refusal(status);
    Failure failure =
        Failure::from(status.is_ok() ? Status(static_cast<SeCode>(answer.code), answer.message)
                                     : Status(SE_INTERNAL, status.message()));
    failure.rank = asked.peer;
    failure.message = "Rank " + std::to_string(asked.peer) + ": " + failure.message;
    return fail(asked.forward, failure);
  }
  asked.forward->messages_[asked.part] = message;
  asked.forward->rows_[asked.part] = answer.rows;
  --asked.forward->num_unanswered_;
  advance(asked.forward);
}

}  // namespace sparse_experts::engine
