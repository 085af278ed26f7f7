// A rank's transport for the length of a scope, and the events of a test.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "transport/transport.h"

namespace transport_test {

constexpr int64_t kPatience = 30'000'000'000;  // no test takes it
constexpr uint64_t kLargest = uint64_t{64} << 20;

class Endpoint {
 public:
  Endpoint(const SeTransportTable& table, const SeTransportOptions& options) : table_(table) {
    code = table_.open(&options, &transport_, &status);
  }
  ~Endpoint() {
    if (transport_ != nullptr) table_.close(transport_);
  }
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  std::vector<uint8_t> address() {
    std::vector<uint8_t> bytes(SE_TRANSPORT_MAX_ADDRESS_BYTES);
    uint64_t length = 0;
    REQUIRE(table_.address(transport_, bytes.data(), bytes.size(), &length, &status) ==
          SE_TRANSPORT_OK);
    bytes.resize(length);
    return bytes;
  }
  int32_t connect(int32_t peer, const std::vector<uint8_t>& address) {
    return table_.connect(transport_, peer, address.data(), address.size(), &status);
  }
  // The ticket; 0 where it is refused. The message stays as long as the endpoint.
  uint64_t send(int32_t peer, std::vector<uint8_t> message) {
    uint64_t ticket = 0;
    const std::vector<uint8_t>& kept = sent_.emplace_back(std::move(message));
    const int32_t sent = table_.send(transport_, peer, kept.data(), kept.size(), &ticket, &status);
    return sent == SE_TRANSPORT_OK ? ticket : 0;
  }
  SeTransportEvent poll(int64_t timeout_ns = kPatience) {
    SeTransportEvent event = {};
    REQUIRE(table_.poll(transport_, timeout_ns, &event, &status) == SE_TRANSPORT_OK);
    return event;
  }
  // The next event of a kind; those of others are passed over.
  SeTransportEvent await(int32_t kind) {
    for (;;) {
      const SeTransportEvent event = poll();
      if (event.kind == kind || event.kind == SE_EVENT_NONE) return event;
    }
  }
  // The oldest message that is here; empty: none. `peer`: who sent it.
  std::vector<uint8_t> take(int32_t* peer = nullptr) {
    SeTransportMessage message = {};
    REQUIRE(table_.recv(transport_, &message, &status) == SE_TRANSPORT_OK);
    if (message.owner == nullptr) return {};
    REQUIRE(reinterpret_cast<uintptr_t>(message.data) % 64 == 0);
    if (peer != nullptr) *peer = message.peer;
    const auto* data = static_cast<const uint8_t*>(message.data);
    std::vector<uint8_t> bytes(data, data + message.bytes);
    table_.release(transport_, &message);
    return bytes;
  }
  // Of the next message.
  std::vector<uint8_t> receive(int32_t* peer = nullptr) {
    REQUIRE(await(SE_EVENT_MESSAGE).kind == SE_EVENT_MESSAGE);
    return take(peer);
  }
  void wake() { table_.wake(transport_); }
  void cancel(uint64_t ticket) { table_.cancel(transport_, ticket); }
  int32_t state(int32_t peer) { return table_.peer_state(transport_, peer); }
  void close() {
    table_.close(transport_);
    transport_ = nullptr;
  }

  // From here on it is somebody else's.
  SeTransport* give() { return std::exchange(transport_, nullptr); }

  const SeTransportTable& table() const { return table_; }
  SeTransport* transport() const { return transport_; }

  int32_t code = SE_TRANSPORT_OK;
  SeStatus status = {};

 private:
  const SeTransportTable& table_;
  std::list<std::vector<uint8_t>> sent_;
  SeTransport* transport_ = nullptr;
};

// Bytes that no other number has.
inline std::vector<uint8_t> message_of(uint64_t number, uint64_t bytes) {
  std::vector<uint8_t> message(bytes);
  for (uint64_t i = 0; i < bytes; ++i)
    message[i] = static_cast<uint8_t>((number * 0x9e37'79b9ULL + i * 31) >> 3);
  return message;
}

}  // namespace transport_test
