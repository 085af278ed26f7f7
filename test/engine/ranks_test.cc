// Layers whose experts lie on several ranks give the bits of the whole layer.
#include <algorithm>

#include "cases.h"
#include "two_ranks.h"

using namespace engine_test;

TEST_SUITE_BEGIN("ranks");

TEST_CASE("every kind of layer, in every dtype, over 1 to 8 ranks") {
  native_test::Random random(11);
  for (const auto& [name, kind] : native_test::layer_kinds()) {
    for (const int32_t dtype : {SE_F32, SE_F16, SE_BF16}) {
      LayerOptions options = kind;
      options.dtype = dtype;
      LayerFixture fixture(options);
      if (fixture.layer.experts.num_experts == 0) continue;
      const std::vector<char> hidden =
          random_bytes(&fixture.random, 9 * options.hidden_size, dtype, 1);
      const ForwardCall call(fixture, hidden, dtype);
      const ForwardResult whole = whole_of(fixture, call);
      for (const int32_t size : {1, 2, 4, 8}) {
        Ranks ranks(fixture, random_owners(fixture.layer.experts.num_experts, size, &random), size);
        const auto caller = static_cast<int32_t>(random.below(size));
        RankCall part(ranks, caller, fixture, call);
        const Failure& failure = part.wait();
        const std::string what = name + ", " + std::to_string(size) + " ranks";
        if (!CHECK_MESSAGE(failure.is_ok(), what, ": ", failure.message)) continue;
        check_same(part, whole, what);
      }
    }
  }
}

TEST_CASE("weights in stored form, and rows as codes of 8 bits") {
  native_test::Random random(12);
  const std::vector<native_test::QuantisedKind> all = native_test::quantised_kinds(320, 320);
  // Each layer holds one and the two behind it.
  for (size_t kind = 0; kind < all.size(); kind += 3) {
    LayerOptions options;
    options.hidden_size = 320, options.intermediate = 144;
    options.num_experts = 6, options.top_k = 3;
    options.dtype = kind % 2 == 0 ? SE_F32 : SE_BF16;
    options.shared = kind % 4 == 0 ? 96 : 0;
    LayerFixture fixture(options);
    fixture.quantise({all[kind].format, all[(kind + 1) % all.size()].format,
                      all[(kind + 2) % all.size()].format});
    const std::vector<char> hidden = random_bytes(&fixture.random, 7 * 320, SE_F32, 1);
    ForwardCall call(fixture, hidden, SE_F32);
    call.options.int8_activations = kind / 3 % 2 == 0 ? 1 : 0;
    Ranks ranks(fixture, random_owners(6, 3, &random), 3, {}, kNever, call.options);
    RankCall part(ranks, 2, fixture, call);
    const Failure& failure = part.wait();
    const std::string what =
        all[kind].name + (call.options.int8_activations != 0 ? ", coded rows" : "");
    if (!CHECK_MESSAGE(failure.is_ok(), what, ": ", failure.message)) continue;
    check_same(part, whole_of(fixture, call), what);
  }
}

TEST_CASE("all ranks call at once over a network that is slow and out of order") {
  LocalFaults faults;
  faults.max_delay_ns = 2'000'000;
  faults.reorders = true;
  LayerOptions options;
  options.num_experts = 16, options.top_k = 4, options.shared = 40;
  LayerFixture fixture(options);
  constexpr int32_t kRanks = 4;
  Ranks ranks(fixture, random_owners(16, kRanks, &fixture.random), kRanks, faults);
  std::vector<std::vector<char>> hidden;
  std::vector<ForwardCall> calls;
  for (int64_t i = 0; i < 24; ++i)
    hidden.push_back(random_bytes(&fixture.random, (1 + i % 5) * 64, SE_F32, 1));
  calls.reserve(hidden.size());
  for (const std::vector<char>& rows : hidden) calls.emplace_back(fixture, rows, SE_F32);
  std::vector<std::unique_ptr<RankCall>> running;
  for (size_t i = 0; i < calls.size(); ++i)
    running.push_back(
        std::make_unique<RankCall>(ranks, static_cast<int32_t>(i) % kRanks, fixture, calls[i]));
  for (size_t i = 0; i < calls.size(); ++i) {
    REQUIRE(running[i]->wait().is_ok());
    check_same(*running[i], whole_of(fixture, calls[i]), "call " + std::to_string(i));
  }
}

TEST_CASE("more tokens than one wave holds, and none") {
  LayerOptions options;
  options.hidden_size = 8192, options.intermediate = 4, options.num_experts = 64,
  options.top_k = 64;
  LayerFixture fixture(options);
  // Nearly all experts are the caller's: a wave's rows are a quarter of a gigabyte.
  std::vector<int32_t> owner_of(64, 1);
  owner_of[5] = 0;
  owner_of[40] = 2;
  Ranks ranks(fixture, owner_of, 3);
#ifdef __SANITIZE_THREAD__
  const std::vector<int64_t> counts = {0};  // a second wave takes a minute there
#else
  const std::vector<int64_t> counts = {130, 0};
#endif
  for (const int64_t num_tokens : counts) {
    const std::vector<char> hidden = random_bytes(&fixture.random, num_tokens * 8192, SE_F32, 1);
    const ForwardCall call(fixture, hidden, SE_F32);
    RankCall part(ranks, 1, fixture, call);
    REQUIRE(part.wait().is_ok());
    check_same(part, whole_of(fixture, call), std::to_string(num_tokens) + " tokens");
  }
}

TEST_CASE("rows that are not finite ask nobody, and keep their flags") {
  TwoRanks two;
  std::vector<char> hidden = two.hidden;
  reinterpret_cast<float*>(hidden.data())[64 + 5] = NAN;
  reinterpret_cast<float*>(hidden.data())[3 * 64] = INFINITY;
  const ForwardCall call(two.fixture, hidden, SE_F32);
  RankCall part(two.ranks, 0, two.fixture, call);
  REQUIRE(part.wait().is_ok());
  check_same(part, whole_of(two.fixture, call), "rows that are not finite");
}

TEST_CASE("a rank holds its own experts and no others") {
  TwoRanks two;
  LayerState& own = *two.ranks.layer(0);
  const LayerOfRank all(two.fixture, std::vector<uint8_t>(8, 1));
  CHECK(own.bytes() < all.state->bytes());
  CHECK(own.matrix_slot(MatrixRole::kExpert, 2, MatrixKind::kUp).data != nullptr);
  const Failure failure =
      failure_of([&] { own.matrix_slot(MatrixRole::kExpert, 3, MatrixKind::kUp); });
  CHECK(failure.code == ErrorCode::kInvalidArgument);
  CHECK(failure.message.find("another rank") != std::string::npos);
  // A call that does not go through the group is no smaller sum.
  CHECK(failure_of([&] { own.forward(two.call.args); }).code == ErrorCode::kInternal);
  CHECK(failure_of([&] {
          two.ranks.group(0).add_layer(9, two.ranks.layer(0), std::vector<int32_t>(8, 0));
        }).code == ErrorCode::kInvalidArgument);
  CHECK(failure_of([&] {
          two.ranks.group(0).submit(
              9, std::make_shared<RankedForward>(two.ranks.layer(0), two.call.args));
        }).code == ErrorCode::kInvalidArgument);
}

TEST_CASE("requests that wait for a device are computed as one") {
  LayerOptions options;
  options.num_experts = 8, options.top_k = 4;
  LayerFixture fixture(options);
  const std::vector<int32_t> owner_of = {0, 1, 2, 1, 0, 1, 2, 1};
  Ranks ranks(fixture, owner_of, 3);
  std::vector<std::vector<char>> hidden;
  std::vector<ForwardCall> calls;
  for (int64_t i = 0; i < 8; ++i)
    hidden.push_back(random_bytes(&fixture.random, (2 + i % 3) * 64, SE_F32, 1));
  calls.reserve(hidden.size());
  for (const std::vector<char>& rows : hidden) calls.emplace_back(fixture, rows, SE_F32);
  std::vector<std::unique_ptr<RankCall>> running;
  {
    const HeldDevice held(*ranks.layer(1));
    for (size_t i = 0; i < calls.size(); ++i)
      running.push_back(std::make_unique<RankCall>(ranks, i % 2 == 0 ? 0 : 2, fixture, calls[i]));
    REQUIRE(wait_until([&] { return ranks.group(1).state().num_requests == calls.size(); }));
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    REQUIRE(running[i]->wait().is_ok());
    check_same(*running[i], whole_of(fixture, calls[i]), "call " + std::to_string(i));
  }
  const RankGroup::State state = ranks.group(1).state();
  CHECK(state.num_answered == calls.size());
  CHECK(state.num_runs == 1);
}

TEST_CASE("a call that waits for one rank keeps no other from its answers") {
  LayerFixture fixture{LayerOptions()};
  const std::vector<char> hidden = random_bytes(&fixture.random, 12 * 64, SE_F32, 1);
  const ForwardCall call(fixture, hidden, SE_F32);
  // Rank 0 waits for rank 1, which is silent; rank 2 has no expert.
  Ranks silent(fixture, {0, 1, 0, 1, 0, 1, 0, 1}, 3);
  silent.network.silence(1);
  RankCall waits(silent, 0, fixture, call);
  const ForwardResult whole = whole_of(fixture, call);
  int num_answered = 0;
  for (const Token& token : tokens_of(fixture, hidden, whole, {0, 1, 0, 1, 0, 1, 0, 1})) {
    if (!has_only(token, 0)) continue;
    const ForwardCall single(fixture, token.hidden, SE_F32);
    RankCall part(silent, 2, fixture, single);
    REQUIRE(part.wait().is_ok());
    check_same(part, whole_of(fixture, single), "rows of a rank whose own call waits");
    ++num_answered;
  }
  CHECK(num_answered > 0);
  CHECK(!waits.has_ended());
  waits.cancel();
  CHECK(waits.wait().code == ErrorCode::kCancelled);
}

TEST_SUITE_END();
