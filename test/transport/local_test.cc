// Messages between ranks of one process: whole, once, late, in any order, lost, and what happens when a
// rank ends.
#include "transport/local.h"

#include <algorithm>
#include <memory>
#include <set>
#include <thread>

#include "endpoint.h"

using namespace transport_test;
using sparse_experts::transport::local_transport;
using sparse_experts::transport::LocalFaults;
using sparse_experts::transport::LocalNetwork;

namespace {

SeTransportOptions options_of(LocalNetwork& network, int32_t rank, int32_t size) {
  SeTransportOptions options = {};
  options.rank = rank;
  options.size = size;
  options.max_message_bytes = kLargest;
  options.network = network.handle();
  return options;
}

// Some ranks, each connected to each.
struct Ranks {
  explicit Ranks(int32_t size, const LocalFaults& faults = {}) : network(size, faults) {
    for (int32_t rank = 0; rank < size; ++rank)
      ranks.push_back(
          std::make_unique<Endpoint>(local_transport(), options_of(network, rank, size)));
    for (int32_t rank = 0; rank < size; ++rank) {
      for (int32_t peer = 0; peer < size; ++peer)
        if (peer != rank) CHECK(of(rank).connect(peer, of(peer).address()) == SE_TRANSPORT_OK);
    }
  }
  Endpoint& of(int32_t rank) { return *ranks[static_cast<size_t>(rank)]; }

  LocalNetwork network;
  std::vector<std::unique_ptr<Endpoint>> ranks;
};

// The first bytes of what arrives at rank 1, in the order of arrival, when rank 0 has sent `count`
// messages whose first byte is their number.
std::vector<uint8_t> arrivals(const LocalFaults& faults, int count, int64_t patience) {
  Ranks two(2, faults);
  for (int i = 0; i < count; ++i) {
    std::vector<uint8_t> message = message_of(1, 8);
    message[0] = static_cast<uint8_t>(i);
    CHECK(two.of(0).send(1, message) != 0);
  }
  std::vector<uint8_t> order;
  while (order.size() < static_cast<size_t>(count) &&
         two.of(1).poll(patience).kind == SE_EVENT_MESSAGE) {
    order.push_back(two.of(1).take()[0]);
  }
  return order;
}

}  // namespace

TEST_SUITE_BEGIN("local transport");

TEST_CASE("a message arrives whole and once, and its memory is free when it has left") {
  Ranks three(3);
  std::vector<uint8_t> message = message_of(7, 100'003);
  uint64_t ticket = 0;
  SeStatus status = {};
  Endpoint& sender = three.of(0);
  REQUIRE(sender.table().send(sender.transport(), 2, message.data(), message.size(), &ticket,
                              &status) == SE_TRANSPORT_OK);
  const SeTransportEvent sent = three.of(0).await(SE_EVENT_SENT);
  CHECK(sent.ticket == ticket);
  CHECK(sent.peer == 2);
  CHECK(sent.code == SE_TRANSPORT_OK);
  std::fill(message.begin(), message.end(), 0);
  int32_t peer = -1;
  CHECK(three.of(2).receive(&peer) == message_of(7, 100'003));
  CHECK(peer == 0);
  CHECK(three.of(2).take().empty());
  CHECK(three.of(1).poll(0).kind == SE_EVENT_NONE);
}

TEST_CASE("a poll ends with its time, and at once when it is woken") {
  Ranks two(2);
  const auto begun = std::chrono::steady_clock::now();
  CHECK(two.of(0).poll(20'000'000).kind == SE_EVENT_NONE);
  CHECK(std::chrono::steady_clock::now() - begun >= std::chrono::milliseconds(20));
  two.of(0).wake();
  CHECK(two.of(0).poll().kind == SE_EVENT_NONE);
  std::thread other([&] { two.of(0).wake(); });
  CHECK(two.of(0).poll().kind == SE_EVENT_NONE);
  other.join();
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::nanoseconds(kPatience));
}

TEST_CASE("delayed messages keep their order unless they may overtake each other") {
  LocalFaults faults;
  faults.max_delay_ns = 3'000'000;
  std::vector<uint8_t> in_order(40);
  for (size_t i = 0; i < in_order.size(); ++i) in_order[i] = static_cast<uint8_t>(i);
  CHECK(arrivals(faults, 40, kPatience) == in_order);
  faults.reorders = true;
  std::vector<uint8_t> any_order = arrivals(faults, 40, kPatience);
  CHECK(any_order != in_order);
  std::sort(any_order.begin(), any_order.end());
  CHECK(any_order == in_order);
}

TEST_CASE("which messages are lost depends on the seed alone") {
  LocalFaults faults;
  faults.lost_per_thousand = 500;
  const std::vector<uint8_t> some = arrivals(faults, 60, 0);
  CHECK(some.size() > 10);
  CHECK(some.size() < 50);
  CHECK(arrivals(faults, 60, 0) == some);
  faults.seed = 2;
  CHECK(arrivals(faults, 60, 0) != some);
}

TEST_CASE("several threads send at once") {
  Ranks two(2);
  constexpr int kThreads = 4;
  constexpr int kEach = 50;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&two, t] {
      for (int i = 0; i < kEach; ++i) {
        const std::vector<uint8_t> message = message_of(static_cast<uint64_t>(t) * kEach + static_cast<uint64_t>(i), 64);
        uint64_t ticket = 0;
        SeStatus status = {};
        two.of(0).table().send(two.of(0).transport(), 1, message.data(), message.size(), &ticket,
                               &status);
      }
    });
  }
  std::multiset<std::vector<uint8_t>> arrived;
  for (int i = 0; i < kThreads * kEach; ++i) arrived.insert(two.of(1).receive());
  for (std::thread& thread : threads) thread.join();
  std::multiset<std::vector<uint8_t>> sent;
  for (int i = 0; i < kThreads * kEach; ++i) sent.insert(message_of(static_cast<uint64_t>(i), 64));
  CHECK(arrived == sent);
}

TEST_CASE("peers hear of a rank that ends, and what they send it has no way") {
  Ranks three(3);
  three.network.kill(1);
  for (const int32_t rank : {0, 2}) {
    const SeTransportEvent event = three.of(rank).poll();
    CHECK(event.kind == SE_EVENT_PEER_LOST);
    CHECK(event.peer == 1);
    CHECK(three.of(rank).state(1) == SE_PEER_LOST);
    CHECK(three.of(rank).send(1, message_of(1, 8)) != 0);
    CHECK(three.of(rank).await(SE_EVENT_SENT).code == SE_TRANSPORT_PEER_LOST);
  }
  // The others go on.
  CHECK(three.of(0).send(2, message_of(3, 8)) != 0);
  CHECK(three.of(2).receive() == message_of(3, 8));
  three.of(2).close();
  CHECK(three.of(0).await(SE_EVENT_PEER_LOST).peer == 2);
}

TEST_CASE("a silent rank is heard of by nobody") {
  Ranks two(2);
  two.network.silence(1);
  CHECK(two.of(0).send(1, message_of(1, 8)) != 0);
  CHECK(two.of(0).await(SE_EVENT_SENT).code == SE_TRANSPORT_OK);
  CHECK(two.of(0).poll(1'000'000).kind == SE_EVENT_NONE);
  CHECK(two.of(0).state(1) == SE_PEER_CONNECTED);
}

TEST_CASE("a message that is larger than its receiver takes makes the sender lost") {
  LocalNetwork network(2);
  Endpoint sender(local_transport(), options_of(network, 0, 2));
  SeTransportOptions small = options_of(network, 1, 2);
  small.max_message_bytes = 100;
  Endpoint receiver(local_transport(), small);
  REQUIRE(sender.connect(1, receiver.address()) == SE_TRANSPORT_OK);
  REQUIRE(receiver.connect(0, sender.address()) == SE_TRANSPORT_OK);
  CHECK(sender.send(1, message_of(1, 100)) != 0);
  CHECK(receiver.receive().size() == 100);
  CHECK(sender.send(1, message_of(1, 101)) != 0);
  CHECK(receiver.await(SE_EVENT_PEER_LOST).peer == 0);
}

TEST_CASE("what makes no sense is refused with a reason") {
  Ranks two(2);
  CHECK(two.of(0).send(0, message_of(1, 8)) == 0);
  CHECK(two.of(0).send(2, message_of(1, 8)) == 0);
  CHECK(two.of(0).send(-1, message_of(1, 8)) == 0);
  CHECK(two.of(0).send(1, {}) == 0);
  CHECK(two.of(0).status.code == SE_TRANSPORT_INVALID_ARGUMENT);
  CHECK(std::string(two.of(0).status.message).find("received 0") != std::string::npos);
  CHECK(two.of(0).connect(1, two.of(1).address()) == SE_TRANSPORT_INVALID_ARGUMENT);
  CHECK(two.of(0).state(7) == SE_PEER_UNKNOWN);

  LocalNetwork network(2);
  const auto opens = [&](SeTransportOptions options) {
    return Endpoint(local_transport(), options).code;
  };
  SeTransportOptions options = options_of(network, 0, 2);
  options.size = 3;
  CHECK(opens(options) == SE_TRANSPORT_INVALID_ARGUMENT);
  options = options_of(network, 2, 2);
  CHECK(opens(options) == SE_TRANSPORT_INVALID_ARGUMENT);
  options = options_of(network, 0, 2);
  options.network = nullptr;
  CHECK(opens(options) == SE_TRANSPORT_INVALID_ARGUMENT);
  options = options_of(network, 0, 2);
  options.max_message_bytes = 0;
  CHECK(opens(options) == SE_TRANSPORT_INVALID_ARGUMENT);
  Endpoint good(local_transport(), options_of(network, 0, 2));
  CHECK(good.code == SE_TRANSPORT_OK);
  CHECK(opens(options_of(network, 0, 2)) == SE_TRANSPORT_INVALID_ARGUMENT);
  CHECK(good.connect(1, good.address()) == SE_TRANSPORT_INVALID_ARGUMENT);
  CHECK(good.connect(1, {1, 2, 3}) == SE_TRANSPORT_INVALID_ARGUMENT);
}

TEST_SUITE_END();
