// Two processes over UCX on the loopback interface.
#include "rank_process.h"

using namespace transport_test;

namespace {

constexpr char kTest[] = "is a rank of two";
constexpr uint64_t kLargestSent = uint64_t{3} << 20;
// Lengths on both sides of where UCX changes the way that it takes.
constexpr uint64_t kLengths[] = {1, 64, 4096, 9000, 65536, 300'000, kLargestSent};

// Rank 0 sends messages of every length, rank 1 sends each of them back.
void exchange(Endpoint& own, int32_t rank) {
  const int32_t peer = 1 - rank;
  uint64_t number = 0;
  for (const uint64_t length : kLengths) {
    const std::vector<uint8_t> message = message_of(number++, length);
    int32_t from = -1;
    if (rank == 1) expect(own.receive(&from) == message && from == 0, "another message");
    const uint64_t ticket = own.send(peer, message);
    expect(ticket != 0, "nothing is sent");
    if (rank == 0) expect(own.receive(&from) == message && from == 1, "another answer");
    if (rank == 1) expect(own.await(SE_EVENT_SENT).ticket == ticket, "no end of a send");
  }
}

[[noreturn]] void be_rank(int32_t rank, const std::string& part) {
  const std::unique_ptr<Endpoint> joined = join_pair(rank, kLargestSent);
  Endpoint& own = *joined;
  if (part == "exchange") {
    exchange(own, rank);
    // Behind what else there is: the ends of sends, and perhaps that of the other rank.
    own.wake();
    expect(own.await(SE_EVENT_NONE).kind == SE_EVENT_NONE, "not woken");
    expect(own.take().empty(), "a message too many");
    leave(0);
  }
  // Part "lost": rank 1 answers once and is killed.
  if (rank == 1) {
    expect(!own.receive().empty(), "no message");
    expect(own.send(0, message_of(1, 100)) != 0, "nothing is sent");
    expect(own.await(SE_EVENT_SENT).code == SE_TRANSPORT_OK, "an answer that does not leave");
    for (;;) own.poll();
  }
  expect(own.send(1, message_of(1, 100)) != 0, "nothing is sent");
  expect(own.receive() == message_of(1, 100), "another answer");
  say("answered");
  expect(own.await(SE_EVENT_PEER_LOST).peer == 1, "nobody is lost");
  expect(own.state(1) == SE_PEER_LOST, "it is not lost");
  expect(own.send(1, message_of(2, 100)) != 0, "a send is refused");
  expect(own.await(SE_EVENT_SENT).code == SE_TRANSPORT_PEER_LOST, "a send to nobody");
  leave(0);
}

}  // namespace

TEST_SUITE_BEGIN("ucx transport");

TEST_CASE(kTest * doctest::skip(std::getenv(kRank) == nullptr)) {
  if (const char* rank = std::getenv(kRank)) be_rank(std::atoi(rank), std::getenv(kPart));
}

TEST_CASE("two processes exchange messages of every length") {
  Process first(kTest, 0, "exchange");
  Process second(kTest, 1, "exchange");
  if (!introduce(first, second)) return;
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0);
}

TEST_CASE("a process that is killed is lost, and the other lives") {
  Process first(kTest, 0, "lost");
  Process second(kTest, 1, "lost");
  if (!introduce(first, second)) return;
  REQUIRE(first.line() == "answered\n");
  second.kill();
  CHECK(second.wait() == -1);
  CHECK(first.wait() == 0);
}

TEST_CASE("without its settings UCX is not opened") {
  Process rank(kTest, 0, "exchange", false);
  CHECK(rank.line().empty());
  CHECK(rank.wait() == kUnavailable);
}

TEST_SUITE_END();
