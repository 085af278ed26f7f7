// A layer whose experts lie in two processes, over UCX on the loopback interface.
#include "ranked_layer.h"
#include "transport/rank_process.h"

using namespace engine_test;
using namespace transport_test;
using native_test::LayerOptions;
using native_test::random_bytes;

namespace {

constexpr char kTest[] = "has half of the experts";
constexpr uint64_t kMostBytes = uint64_t{1} << 28;

// The same in both processes: 16 experts, 4 of them for each token, even ones on rank 0.
struct Half {
  explicit Half(int32_t number) : rank(number), fixture(options_of_layer()) {
    for (int32_t e = 0; e < 16; ++e) {
      owner_of.push_back(e % 2);
      owned.push_back(e % 2 == rank ? 1 : 0);
    }
    layer = std::make_unique<LayerOfRank>(fixture, owned);
    std::unique_ptr<Endpoint> joined = join_pair(rank, kMostBytes);
    RankOptions options;
    options.rank = rank;
    options.size = 2;
    options.group = kGroup;
    options.epoch = kEpoch;
    group = std::make_unique<RankGroup>(options, joined->table(), joined->give());
    group->add_layer(kLayer, layer->state, owner_of);
    group->start();
  }

  static LayerOptions options_of_layer() {
    LayerOptions options;
    options.num_experts = 16, options.top_k = 4, options.shared = 40;
    options.hidden_size = 192;
    return options;
  }
  // A call of some rows, drawn by a seed.
  Failure run(int64_t num_tokens, uint64_t seed, bool* is_same) {
    native_test::Random random(seed);
    const std::vector<char> hidden = random_bytes(&random, num_tokens * 192, SE_F32, 1);
    const ForwardCall call(fixture, hidden, SE_F32);
    RankCall part(*group, layer->state, fixture, call);
    Failure failure = part.wait();
    *is_same = failure.is_ok() && part.result.output == whole_of(fixture, call).output;
    return failure;
  }

  const int32_t rank;
  LayerFixture fixture;
  std::vector<int32_t> owner_of;
  std::vector<uint8_t> owned;
  std::unique_ptr<LayerOfRank> layer;
  std::unique_ptr<RankGroup> group;
};

[[noreturn]] void be_half(int32_t rank, const std::string& part) {
  Half own(rank);
  bool is_same = false;
  if (part == "compute") {
    for (int64_t i = 0; i < 12; ++i) {
      // From one row to requests and answers of some hundred kilobytes.
      const Failure failure =
          own.run(1 + i * i * 2, static_cast<uint64_t>(rank * 100 + i), &is_same);
      expect(failure.is_ok(), failure.message.c_str());
      expect(is_same, "other bits than those of one process");
    }
    // The other one may still ask.
    say("computed");
    hear();
    leave(0);
  }
  // Part "lost": rank 1 answers until it is killed.
  if (rank == 1) hear();
  expect(own.run(8, 1, &is_same).is_ok() && is_same, "no answer");
  say("computed");
  Failure failure;
  while (failure.is_ok()) failure = own.run(8, 2, &is_same);
  expect(failure.code == ErrorCode::kPeerLost, failure.message.c_str());
  expect(failure.rank == 1, "another rank");
  failure = own.run(8, 3, &is_same);
  expect(failure.code == ErrorCode::kPeerLost, "a call that needs a lost rank");
  leave(0);
}

}  // namespace

TEST_SUITE_BEGIN("ranks over ucx");

TEST_CASE(kTest* doctest::skip(std::getenv(kRank) == nullptr)) {
  if (const char* rank = std::getenv(kRank)) be_half(std::atoi(rank), std::getenv(kPart));
}

TEST_CASE("two processes with half of the experts each give the bits of one") {
  Process first(kTest, 0, "compute");
  Process second(kTest, 1, "compute");
  if (!introduce(first, second)) return;
  CHECK(first.line() == "computed\n");
  CHECK(second.line() == "computed\n");
  first.write("end\n");
  second.write("end\n");
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0);
}

TEST_CASE("a process that is killed ends the calls that need it") {
  Process first(kTest, 0, "lost");
  Process second(kTest, 1, "lost");
  if (!introduce(first, second)) return;
  REQUIRE(first.line() == "computed\n");
  second.kill();
  CHECK(second.wait() == -1);
  CHECK(first.wait() == 0);
}

TEST_SUITE_END();
