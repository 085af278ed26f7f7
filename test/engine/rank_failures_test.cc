// Every call over several ranks ends when ranks are slow, silent, killed or wrong.
#include <algorithm>

#include "transport/endpoint.h"
#include "transport/messages.h"
#include "two_ranks.h"

using namespace engine_test;

TEST_SUITE_BEGIN("rank failures");

TEST_CASE("who needs a killed rank hears which, who needs it not goes on") {
  TwoRanks two;
  const std::vector<Token> tokens =
      tokens_of(two.fixture, two.hidden, two.whole, {0, 1, 0, 1, 0, 1, 0, 1});
  two.ranks.network.kill(1);
  int num_lost = 0;
  int num_computed = 0;
  for (const Token& token : tokens) {
    const ForwardCall call(two.fixture, token.hidden, SE_F32);
    RankCall part(two.ranks, 0, two.fixture, call);
    const Failure failure = part.wait();
    if (has(token, 1)) {
      CHECK(failure.code == ErrorCode::kPeerLost);
      CHECK(failure.rank == 1);
      ++num_lost;
    } else {
      REQUIRE(failure.is_ok());
      check_same(part, whole_of(two.fixture, call), "a call without the lost rank");
      ++num_computed;
    }
  }
  CHECK(num_lost > 0);
  CHECK(num_computed > 0);
  CHECK(wait_until([&] { return two.ranks.group(0).state().lost == std::vector<int32_t>{1}; }));
}

TEST_CASE("a rank that is killed while a call waits for it ends that call") {
  TwoRanks two;
  two.ranks.network.silence(1);
  RankCall part(two.ranks, 0, two.fixture, two.call);
  CHECK(!part.has_ended());
  two.ranks.network.kill(1);
  const Failure& failure = part.wait();
  CHECK(failure.code == ErrorCode::kPeerLost);
  CHECK(failure.rank == 1);
}

TEST_CASE("a silent rank ends a call at its deadline, and not before") {
  constexpr std::chrono::milliseconds kTimeout{60};
  TwoRanks two(kTimeout);
  two.ranks.network.silence(1);
  const auto begun = std::chrono::steady_clock::now();
  RankCall part(two.ranks, 0, two.fixture, two.call);
  const Failure& failure = part.wait();
  CHECK(failure.code == ErrorCode::kPeerTimeout);
  CHECK(failure.rank == 1);
  CHECK(failure.message.find("60 ms") != std::string::npos);
  CHECK(std::chrono::steady_clock::now() - begun >= kTimeout);
}

TEST_CASE("over a network that loses messages every call ends, right or late") {
  LocalFaults faults;
  faults.lost_per_thousand = 200;
  TwoRanks two(std::chrono::milliseconds(100), faults);
  int num_right = 0;
  int num_late = 0;
  for (int i = 0; i < 40; ++i) {
    RankCall part(two.ranks, i % 2, two.fixture, two.call);
    const Failure failure = part.wait();
    if (failure.is_ok()) {
      check_same(part, two.whole, "a call whose messages arrived");
      ++num_right;
    } else {
      CHECK(failure.code == ErrorCode::kPeerTimeout);
      ++num_late;
    }
  }
  CHECK(num_late > 0);
  CHECK(num_right + num_late == 40);
}

TEST_CASE("a call can be given up while it waits, and the next one goes on") {
  TwoRanks two;
  RankCall first(two.ranks, 0, two.fixture, two.call);
  first.cancel();
  const Failure failure = first.wait();
  CHECK((failure.is_ok() || failure.code == ErrorCode::kCancelled));
  RankCall second(two.ranks, 0, two.fixture, two.call);
  REQUIRE(second.wait().is_ok());
  check_same(second, two.whole, "after a call that was given up");
}

TEST_CASE("rows of a call that was given up are not computed") {
  TwoRanks two;
  RankGroup& owner = two.ranks.group(1);
  auto held = std::make_unique<HeldDevice>(*two.ranks.layer(1));
  RankCall part(two.ranks, 0, two.fixture, two.call);
  RankCall other(two.ranks, 0, two.fixture, two.call);
  REQUIRE(wait_until([&] { return owner.state().num_requests == 2; }));
  part.cancel();
  CHECK(part.wait().code == ErrorCode::kCancelled);
  CHECK(wait_until([&] { return owner.state().num_dropped == 1; }));
  CHECK(!other.has_ended());
  held.reset();
  REQUIRE(other.wait().is_ok());
  check_same(other, two.whole, "a call beside one that was given up");
  CHECK(owner.state().num_answered == 1);
}

TEST_CASE("a group that ends takes its calls along") {
  TwoRanks two;
  two.ranks.network.silence(1);
  RankCall part(two.ranks, 0, two.fixture, two.call);
  two.ranks.groups[0].reset();
  CHECK(part.wait().code == ErrorCode::kCancelled);
}

TEST_CASE("a rank refuses what a peer may not ask, says so, and goes on") {
  TwoRanks two;
  two.ranks.group(1).remove_layer(kLayer);
  RankCall part(two.ranks, 0, two.fixture, two.call);
  const Failure failure = part.wait();
  CHECK(failure.code == ErrorCode::kInvalidArgument);
  CHECK(failure.rank == 1);
  CHECK(failure.message.find("no layer 3") != std::string::npos);
  CHECK(two.ranks.group(1).state().num_refused == 1);
  // Rank 1 has been told of other owners than rank 0.
  const LayerOfRank other(two.fixture, {1, 0, 1, 0, 1, 0, 1, 0});
  two.ranks.group(1).add_layer(kLayer, other.state, {1, 0, 1, 0, 1, 0, 1, 0});
  RankCall wrong(two.ranks, 0, two.fixture, two.call);
  CHECK(wrong.wait().message.find("is not here") != std::string::npos);
  two.ranks.group(1).remove_layer(kLayer);
  two.ranks.group(1).add_layer(kLayer, two.ranks.layer(1), {0, 1, 0, 1, 0, 1, 0, 1});
  RankCall right(two.ranks, 0, two.fixture, two.call);
  REQUIRE(right.wait().is_ok());
  check_same(right, two.whole, "after refusals");
}

// Rank 1 is no group: it receives what rank 0 asks, and sends what it likes.
struct Stranger {
  Stranger(const LayerFixture& fixture, const std::vector<int32_t>& owner_of)
      : layer(fixture, {1, 0, 1, 0, 1, 0, 1, 0}) {
    for (int32_t rank = 0; rank < 2; ++rank) {
      SeTransportOptions options = {};
      options.rank = rank;
      options.size = 2;
      options.max_message_bytes = uint64_t{1} << 24;
      options.network = network.handle();
      ends.push_back(std::make_unique<transport_test::Endpoint>(local_transport(), options));
    }
    REQUIRE(ends[0]->connect(1, ends[1]->address()) == SE_TRANSPORT_OK);
    REQUIRE(ends[1]->connect(0, ends[0]->address()) == SE_TRANSPORT_OK);
    RankOptions options;
    options.size = 2;
    options.group = kGroup;
    options.epoch = kEpoch;
    options.timeout = std::chrono::milliseconds(50);
    group = std::make_unique<RankGroup>(options, local_transport(), ends[0]->give());
    group->add_layer(kLayer, layer.state, owner_of);
    group->start();
  }

  LocalNetwork network{2};
  LayerOfRank layer;
  std::vector<std::unique_ptr<transport_test::Endpoint>> ends;
  std::unique_ptr<RankGroup> group;
};

TEST_CASE("whatever bytes a peer sends, calls end and the rank goes on") {
  namespace se = sparse_experts::transport;
  const std::vector<int32_t> owner_of = {0, 1, 0, 1, 0, 1, 0, 1};
  LayerFixture fixture{LayerOptions()};
  const std::vector<char> hidden = random_bytes(&fixture.random, 6 * 64, SE_F32, 1);
  const ForwardCall call(fixture, hidden, SE_F32);
  Stranger stranger(fixture, owner_of);
  transport_test::Endpoint& peer = *stranger.ends[1];
  native_test::Random random(7);
  se::Envelope envelope;
  envelope.group = kGroup;
  envelope.epoch = kEpoch;
  envelope.from = 1;
  envelope.layer = kLayer;
  const SeTensor rows = call.args.hidden;
  const auto mutated = [&](std::vector<uint8_t> message) {
    for (int64_t i = random.below(3); i > 0; --i)
      message[static_cast<size_t>(
          random.below(std::min<int64_t>(160, static_cast<int64_t>(message.size()))))] ^=
          static_cast<uint8_t>(1 + random.below(255));
    if (random.below(6) == 0)
      message.resize(static_cast<size_t>(1 + random.below(static_cast<int64_t>(message.size()))));
    return message;
  };
  int num_ended = 0;
  for (int round = 0; round < 60; ++round) {
    RankCall part(*stranger.group, stranger.layer.state, fixture, call);
    // A request of its own, an answer to what was asked, and noise.
    envelope.kind = se::MessageKind::kRequest;
    envelope.call = static_cast<uint64_t>(round);
    peer.send(0, mutated(se::encode_request(envelope, rows, {0, 3}, {{0, 2, 1.0F}, {1, 4, 1.0F}})));
    // Among answers and cancels of earlier rounds.
    se::Envelope theirs = envelope;
    while (theirs.from != 0 || theirs.kind != se::MessageKind::kRequest) {
      const std::vector<uint8_t> message = peer.receive();
      REQUIRE(se::decode_envelope(message.data(), message.size(), {kGroup, kEpoch, 2}, 0, &theirs)
                  .is_ok());
    }
    envelope.kind = se::MessageKind::kAnswer;
    envelope.call = theirs.call;
    peer.send(0, mutated(se::encode_answer(envelope, 1 + random.below(8), 64)));
    envelope.kind = se::MessageKind::kCancel;
    envelope.call = static_cast<uint64_t>(round);
    peer.send(0, mutated(se::encode_cancel(envelope)));
    const Failure failure = part.wait();
    // An answer of the right length with any values is an answer.
    CHECK_MESSAGE((failure.is_ok() || failure.code == ErrorCode::kInternal ||
                   failure.code == ErrorCode::kPeerTimeout ||
                   (failure.code != ErrorCode::kPeerLost && failure.rank == 1)),
                  failure.message);
    ++num_ended;
  }
  CHECK(num_ended == 60);
  CHECK(stranger.group->state().num_refused > 20);
  CHECK(stranger.group->state().lost.empty());
}

TEST_SUITE_END();
