// Messages on their way out and in.
#include <algorithm>
#include <new>
#include <utility>

#include "transport/ucx_rank.h"

namespace sparse_experts::transport::ucx {
namespace {

// A message's tag: this word, and the rank that sends it.
constexpr uint64_t kTagWord = 0x5345'4d58'0000'0000ULL;
constexpr uint64_t kTagMask = 0xffff'ffff'0000'0000ULL;

int32_t code_of(Status status) {
  if (status == kOk) return SE_TRANSPORT_OK;
  return status == kCanceled ? SE_TRANSPORT_CANCELLED : SE_TRANSPORT_PEER_LOST;
}

}  // namespace

void Rank::start_send(const Command& command) {
  Peer& peer = peers_[static_cast<size_t>(command.peer)];
  if (peer.state != SE_PEER_CONNECTED || peer.endpoint == nullptr) {
    events_.push_back({SE_EVENT_SENT, command.peer, command.ticket, SE_TRANSPORT_PEER_LOST});
    return;
  }
  auto send = std::make_unique<Send>(Send{this, command.ticket, command.peer, nullptr});
  RequestParams params = {};
  params.attributes = kAttributeCallback | kAttributeUserData;
  params.callback.send = on_sent;
  params.user_data = send.get();
  Send* const started = send.get();
  sends_.emplace(command.ticket, std::move(send));
  const StatusPointer pointer =
      ucx_.tag_send_nbx(peer.endpoint, command.data, command.bytes,
                        kTagWord | static_cast<uint32_t>(options_.rank), &params);
  if (pointer == nullptr) return end_send(command.ticket, kOk);
  if (is_error(pointer)) {
    end_send(command.ticket, status_of(pointer));
    return lose(command.peer);
  }
  started->request = pointer;
}

void Rank::end_send(uint64_t ticket, Status status) {
  const auto found = sends_.find(ticket);
  if (found == sends_.end()) return;
  const int32_t peer = found->second->peer;
  sends_.erase(found);
  events_.push_back({SE_EVENT_SENT, peer, ticket, code_of(status)});
}

void Rank::take_messages() {
  for (;;) {
    ReceivedInfo info = {};
    const Message message = ucx_.tag_probe_nb(worker_, kTagWord, kTagMask, 1, &info);
    if (message == nullptr) return;
    const uint64_t sender = info.sender_tag & ~kTagMask;
    const bool is_peer = sender < peers_.size() && sender != static_cast<uint64_t>(options_.rank);
    const int32_t peer = is_peer ? static_cast<int32_t>(sender) : -1;
    // One that is not taken stays in UCX's memory until the worker goes.
    if (info.length > options_.max_message_bytes) {
      lose(peer);
      continue;
    }
    try {
      start_receive(peer, info.length, message);
    } catch (const std::bad_alloc&) {
      lose(peer);
    }
  }
}

void Rank::start_receive(int32_t peer, uint64_t bytes, Message message) {
  auto receive = std::make_unique<Receive>(
      Receive{this, peer, bytes, allocate_message(std::max<uint64_t>(bytes, 1)), nullptr});
  Receive* const started = receive.get();
  receives_.emplace(started, std::move(receive));
  RequestParams params = {};
  params.attributes = kAttributeCallback | kAttributeUserData;
  params.callback.receive = on_received;
  params.user_data = started;
  const StatusPointer pointer =
      ucx_.tag_msg_recv_nbx(worker_, started->data.get(), bytes, message, &params);
  if (pointer == nullptr) return end_receive(started, kOk);
  if (is_error(pointer)) return end_receive(started, status_of(pointer));
  started->request = pointer;
}

void Rank::end_receive(Receive* receive, Status status) {
  const auto found = receives_.find(receive);
  const std::unique_ptr<Receive> ended = std::move(found->second);
  receives_.erase(found);
  if (ended->peer < 0 || state(ended->peer) == SE_PEER_LOST) return;
  if (status < 0) return lose(ended->peer);
  SeTransportMessage message = {ended->peer, ended->data.get(), ended->bytes, ended->data.get()};
  arrived_.push_back(message);
  static_cast<void>(ended->data.release());  // the message has it
  events_.push_back({SE_EVENT_MESSAGE, ended->peer, 0, 0});
}

void Rank::on_sent(void* request, Status status, void* user_data) {
  const auto* send = static_cast<const Send*>(user_data);
  Rank& rank = *send->rank;
  rank.ucx_.request_free(request);
  try {
    rank.end_send(send->ticket, status);
  } catch (...) {
    rank.is_out_of_memory_ = true;
  }
}

void Rank::on_received(void* request, Status status, const ReceivedInfo* /*info*/,
                       void* user_data) {
  auto* receive = static_cast<Receive*>(user_data);
  Rank& rank = *receive->rank;
  rank.ucx_.request_free(request);
  try {
    rank.end_receive(receive, status);
  } catch (...) {
    rank.is_out_of_memory_ = true;
  }
}

SeTransportMessage Rank::receive() {
  if (arrived_.empty()) return {};
  const SeTransportMessage message = arrived_.front();
  arrived_.pop_front();
  return message;
}

}  // namespace sparse_experts::transport::ucx
