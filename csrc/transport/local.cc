#include "transport/local.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "transport/guarded.h"
#include "transport/local_network.h"

namespace sparse_experts::transport {
namespace {

// The address of a rank is its number and this word, so that another transport's is refused.
struct LocalAddress {
  char word[8];
  int32_t rank;
};
constexpr char kWord[8] = {'l', 'o', 'c', 'a', 'l', 0, 0, 0};

struct Endpoint {
  SeTransportOptions options;
  LocalNetwork::Shared* network;
};

Endpoint& at(SeTransport* transport) { return *reinterpret_cast<Endpoint*>(transport); }

int32_t local_open(const SeTransportOptions* options, SeTransport** transport, SeStatus* status) {
  *transport = nullptr;
  return guarded(status, [&] {
    check_options(*options);
    if (options->network == nullptr) refuse("transport: 'local' needs a network of this process");
    LocalNetwork::Shared& network = static_cast<LocalNetwork*>(options->network)->shared();
    if (options->size != network.num_ranks())
      refuse("transport: the network has " + std::to_string(network.num_ranks()) + " ranks");
    auto made = std::make_unique<Endpoint>(Endpoint{*options, &network});
    network.open(options->rank, options->max_message_bytes);
    *transport = reinterpret_cast<SeTransport*>(made.release());
  });
}

int32_t local_address(SeTransport* transport, void* address, uint64_t capacity, uint64_t* bytes,
                      SeStatus* status) {
  return guarded(status, [&] {
    LocalAddress own = {};
    std::memcpy(own.word, kWord, sizeof kWord);
    own.rank = at(transport).options.rank;
    check_capacity(capacity, sizeof own);
    std::memcpy(address, &own, sizeof own);
    *bytes = sizeof own;
  });
}

int32_t local_connect(SeTransport* transport, int32_t peer, const void* address, uint64_t bytes,
                      SeStatus* status) {
  return guarded(status, [&] {
    const Endpoint& own = at(transport);
    check_peer(own.options, peer);
    LocalAddress theirs = {};
    if (bytes == sizeof theirs) std::memcpy(&theirs, address, sizeof theirs);
    if (bytes != sizeof theirs || std::memcmp(theirs.word, kWord, sizeof kWord) != 0 ||
        theirs.rank != peer) {
      refuse("transport: that is not the address of rank " + std::to_string(peer));
    }
    own.network->connect(own.options.rank, peer);
  });
}

int32_t local_send(SeTransport* transport, int32_t peer, const void* data, uint64_t bytes,
                   uint64_t* ticket, SeStatus* status) {
  return guarded(status, [&] {
    const Endpoint& own = at(transport);
    check_peer(own.options, peer);
    check_message(own.options, data, bytes);
    *ticket = own.network->send(own.options.rank, peer, data, bytes);
  });
}

int32_t local_recv(SeTransport* transport, SeTransportMessage* message, SeStatus* status) {
  return guarded(status, [&] {
    const Endpoint& own = at(transport);
    *message = own.network->receive(own.options.rank);
  });
}

void local_release(SeTransport* /*transport*/, SeTransportMessage* message) {
  FreeMessage()(std::exchange(message->owner, nullptr));
  message->data = nullptr;
}

int32_t local_poll(SeTransport* transport, int64_t timeout_ns, SeTransportEvent* event,
                   SeStatus* status) {
  return guarded(status, [&] {
    const Endpoint& own = at(transport);
    *event = own.network->poll(own.options.rank, timeout_ns);
  });
}

void local_wake(SeTransport* transport) {
  const Endpoint& own = at(transport);
  own.network->wake(own.options.rank);
}

// A message has left when send returns.
void local_cancel(SeTransport* /*transport*/, uint64_t /*ticket*/) {}

int32_t local_peer_state(SeTransport* transport, int32_t peer) {
  const Endpoint& own = at(transport);
  if (peer < 0 || peer >= own.options.size) return SE_PEER_UNKNOWN;
  return own.network->peer_state(own.options.rank, peer);
}

void local_close(SeTransport* transport) {
  const std::unique_ptr<Endpoint> own(&at(transport));
  own->network->close(own->options.rank);
}

}  // namespace

const SeTransportTable& local_transport() {
  static const SeTransportTable table = {
      sizeof(SeTransportTable),
      "local",
      local_open,
      local_address,
      local_connect,
      local_send,
      local_recv,
      local_release,
      local_poll,
      local_wake,
      local_cancel,
      local_peer_state,
      local_close,
  };
  return table;
}

}  // namespace sparse_experts::transport
