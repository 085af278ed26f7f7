#include "transport/ucx.h"

#include <cstring>
#include <memory>
#include <utility>

#include "transport/guarded.h"
#include "transport/ucx_rank.h"

namespace sparse_experts::transport {
namespace {

using ucx::Rank;

Rank& at(SeTransport* transport) { return *reinterpret_cast<Rank*>(transport); }

int32_t ucx_open(const SeTransportOptions* options, SeTransport** transport, SeStatus* status) {
  *transport = nullptr;
  return guarded(status, [&] {
    check_options(*options);
    *transport = reinterpret_cast<SeTransport*>(new Rank(*options));
  });
}

int32_t ucx_address(SeTransport* transport, void* address, uint64_t capacity, uint64_t* bytes,
                    SeStatus* status) {
  return guarded(status, [&] {
    const std::vector<uint8_t>& own = at(transport).address();
    check_capacity(capacity, own.size());
    std::memcpy(address, own.data(), own.size());
    *bytes = own.size();
  });
}

int32_t ucx_connect(SeTransport* transport, int32_t peer, const void* address, uint64_t bytes,
                    SeStatus* status) {
  return guarded(status, [&] {
    check_peer(at(transport).options(), peer);
    at(transport).connect(peer, address, bytes);
  });
}

int32_t ucx_send(SeTransport* transport, int32_t peer, const void* data, uint64_t bytes,
                 uint64_t* ticket, SeStatus* status) {
  return guarded(status, [&] {
    check_peer(at(transport).options(), peer);
    check_message(at(transport).options(), data, bytes);
    *ticket = at(transport).send(peer, data, bytes);
  });
}

int32_t ucx_recv(SeTransport* transport, SeTransportMessage* message, SeStatus* status) {
  return guarded(status, [&] { *message = at(transport).receive(); });
}

void ucx_release(SeTransport* /*transport*/, SeTransportMessage* message) {
  FreeMessage()(std::exchange(message->owner, nullptr));
  message->data = nullptr;
}

int32_t ucx_poll(SeTransport* transport, int64_t timeout_ns, SeTransportEvent* event,
                 SeStatus* status) {
  return guarded(status, [&] { *event = at(transport).poll(timeout_ns); });
}

void ucx_wake(SeTransport* transport) { at(transport).wake(); }

void ucx_cancel(SeTransport* transport, uint64_t ticket) {
  try {
    at(transport).cancel(ticket);
  } catch (...) {
    // Without memory for the command the send ends as it would have.
  }
}

int32_t ucx_peer_state(SeTransport* transport, int32_t peer) {
  if (peer < 0 || peer >= at(transport).options().size) return SE_PEER_UNKNOWN;
  return at(transport).state(peer);
}

void ucx_close(SeTransport* transport) { delete &at(transport); }

}  // namespace

const SeTransportTable& ucx_transport() {
  static const SeTransportTable table = {
      sizeof(SeTransportTable),
      "ucx",
      ucx_open,
      ucx_address,
      ucx_connect,
      ucx_send,
      ucx_recv,
      ucx_release,
      ucx_poll,
      ucx_wake,
      ucx_cancel,
      ucx_peer_state,
      ucx_close,
  };
  return table;
}

}  // namespace sparse_experts::transport
