// A layer on two ranks of this process, and the rows of a call one by one.
#pragma once

#include <algorithm>

#include "ranked_layer.h"

namespace engine_test {

using native_test::LayerOptions;
using native_test::random_bytes;

// The experts of a layer on the ranks, in any order: each rank has some, or none.
inline std::vector<int32_t> random_owners(int64_t num_experts, int32_t num_ranks,
                                          native_test::Random* random) {
  std::vector<int32_t> owner_of;
  for (int64_t e = 0; e < num_experts; ++e)
    owner_of.push_back(static_cast<int32_t>(random->below(num_ranks)));
  return owner_of;
}

// 8 experts, 2 of them for each token, on 2 ranks: even ones on rank 0.
struct TwoRanks {
  explicit TwoRanks(std::chrono::nanoseconds timeout = kNever, const LocalFaults& faults = {})
      : ranks(fixture, {0, 1, 0, 1, 0, 1, 0, 1}, 2, faults, timeout) {}

  LayerFixture fixture{LayerOptions()};
  const std::vector<char> hidden = random_bytes(&fixture.random, 12 * 64, SE_F32, 1);
  const ForwardCall call{fixture, hidden, SE_F32};
  const ForwardResult whole = whole_of(fixture, call);
  Ranks ranks;
};

// Nothing runs on the device of a layer while this is here.
class HeldDevice {
 public:
  explicit HeldDevice(LayerState& layer) {
    layer.executor().submit(make_task(inbox_, 1, [this](Task& /*task*/) {
      has_begun_ = true;
      wait_until([this] { return is_over_.load(); });
    }));
    REQUIRE(wait_until([this] { return has_begun_.load(); }));
  }
  ~HeldDevice() {
    is_over_ = true;
    inbox_.wait_done(1);
  }
  HeldDevice(const HeldDevice&) = delete;
  HeldDevice& operator=(const HeldDevice&) = delete;

 private:
  std::atomic<bool> has_begun_{false};
  std::atomic<bool> is_over_{false};
  Inbox inbox_;
};

// A row of a call, and the owners of its experts.
struct Token {
  std::vector<char> hidden;
  std::vector<int32_t> owners;
};

inline std::vector<Token> tokens_of(const LayerFixture& fixture, const std::vector<char>& hidden,
                                    const ForwardResult& whole,
                                    const std::vector<int32_t>& owner_of) {
  std::vector<Token> tokens;
  const auto row = static_cast<size_t>(fixture.layer.hidden_size) * 4;
  const int64_t top_k = fixture.layer.routing.top_k;
  for (size_t t = 0; t * row < hidden.size(); ++t) {
    Token& token = tokens.emplace_back();
    token.hidden.assign(hidden.begin() + static_cast<int64_t>(t * row),
                        hidden.begin() + static_cast<int64_t>((t + 1) * row));
    for (int64_t k = 0; k < top_k; ++k)
      token.owners.push_back(owner_of[static_cast<size_t>(
          whole.ids[t * static_cast<size_t>(top_k) + static_cast<size_t>(k)])]);
  }
  return tokens;
}

inline bool has_only(const Token& token, int32_t owner) {
  return std::all_of(token.owners.begin(), token.owners.end(),
                     [&](int32_t other) { return other == owner; });
}

inline bool has(const Token& token, int32_t owner) { return !has_only(token, 1 - owner); }

}  // namespace engine_test
