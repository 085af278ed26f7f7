// Who is evicted, worked out by hand from the rules of cache_policy.h, and what holds on any trace. Its
// decisions on random traces are compared with another implementation in test/unit/cache-policy.test.ts.
#include "engine/cache_policy.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "../cpp/check.h"
#include "../cpp/random.h"
#include "fixture.h"

using namespace engine_test;
using native_test::Every;
using native_test::Random;
using sparse_experts::engine::CachePolicy;
using sparse_experts::engine::CacheShape;
using sparse_experts::engine::EvictionRule;
using sparse_experts::engine::ExpertPlace;
using sparse_experts::engine::kMostRing;
using sparse_experts::engine::kMostUses;
using sparse_experts::engine::kNone;
using sparse_experts::engine::PrefetchCounts;

namespace {

CachePolicy one_layer(EvictionRule rule, int32_t slots, int32_t experts = 10) {
  return CachePolicy({rule, {slots}, {{experts, 0}}});
}

// What a call did, in a word per expert: '+' hit, '@' passes, '' a free slot, 'x<' the evicted expert x.
std::string story(CachePolicy& policy, std::vector<int32_t> experts, int32_t layer = 0) {
  std::string text;
  for (const ExpertPlace& place :
       policy.plan(layer, experts.data(), static_cast<int64_t>(experts.size()))) {
    if (!text.empty()) text += ' ';
    if (place.evicted_expert != kNone) {
      if (place.evicted_layer != layer) text += std::to_string(place.evicted_layer) + '.';
      text += std::to_string(place.evicted_expert) + '<';
    }
    text += std::to_string(place.expert);
    if (place.passes) text += '@';
    if (place.is_hit) text += '+';
  }
  return text;
}

}  // namespace

TEST_SUITE_BEGIN("cache policy");

TEST_CASE("lru evicts what was used longest ago, the lower number among equals") {
  CachePolicy policy = one_layer(EvictionRule::kLru, 3);
  CHECK(story(policy, {4, 5}) == "4 5");
  CHECK(story(policy, {2}) == "2");
  CHECK(story(policy, {5}) == "5+");
  CHECK(story(policy, {7}) == "4<7");  // 4 was used in call 1, 2 in call 2, 5 in call 3
  CHECK(story(policy, {1, 8}) == "2<1 5<8");
  CHECK(story(policy, {0}) == "7<0");
  CHECK(story(policy, {3}) == "1<3");  // 1 and 8 were used by the same call
  CHECK(policy.slot_of(0, 0) != kNone);
  CHECK(policy.slot_of(0, 1) == kNone);
}

TEST_CASE("lfu evicts what was used least often, and remembers uses of what it evicted") {
  CachePolicy policy = one_layer(EvictionRule::kLfu, 2);
  CHECK(story(policy, {0}) == "0");
  CHECK(story(policy, {0}) == "0+");
  CHECK(story(policy, {1}) == "1");
  CHECK(story(policy, {2}) == "1<2");  // uses: 0 twice, 1 once
  CHECK(story(policy, {1}) == "2<1");  // 1 has now two uses as well
  CHECK(story(policy, {1}) == "1+");
  CHECK(story(policy, {3}) == "0<3");  // 0 has two, 1 three
}

TEST_CASE("lfru evicts by uses over age") {
  CachePolicy policy = one_layer(EvictionRule::kLfru, 2);
  for (int call = 1; call <= 4; ++call) story(policy, {0});  // 4 uses, last in call 4
  CHECK(story(policy, {1}) == "1");                          // call 5
  CHECK(story(policy, {2}) == "1<2");                        // call 6: 0 has 4 / 2, 1 has 1 / 1
  CHECK(story(policy, {3}) == "2<3");                        // call 7: 0 has 4 / 3, 2 has 1 / 1
  CHECK(story(policy, {4}) == "0<4");  // call 8: 0 has 4 / 4, 3 has 1 / 1: equal, and 0 is older
}

TEST_CASE("static evicts nobody") {
  CachePolicy policy = one_layer(EvictionRule::kStatic, 2);
  CHECK(policy.warm(0, 6) == 0);
  CHECK(story(policy, {3}) == "3");
  CHECK(story(policy, {3, 4}) == "3+ 4@");
  CHECK(policy.warm(0, 9) == kNone);
  CHECK(story(policy, {6, 9}) == "6+ 9@");
}

TEST_CASE("a call never evicts what it needs itself") {
  CachePolicy policy = one_layer(EvictionRule::kLru, 2);
  CHECK(story(policy, {8}) == "8");
  CHECK(story(policy, {9}) == "9");
  CHECK(story(policy, {1, 8}) == "9<1 8+");  // 8 is the oldest, and needed
}

TEST_CASE("a call that needs more than there are slots takes a ring of them, and is no use") {
  CachePolicy full = one_layer(EvictionRule::kLru, 6);
  CHECK(story(full, {0, 1, 2, 3, 4, 5}) == "0 1 2 3 4 5");
  CHECK(story(full, {1}) == "1+");
  // Four slots for four misses: those of 0, 2, 3 and 4, which are found before they go.
  CHECK(story(full, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) == "0+ 1+ 2+ 3+ 4+ 5+ 0<6 2<7 3<8 4<9");
  CHECK(story(full, {0}) == "6<0");  // nobody has used 6 to 9

  CachePolicy empty = one_layer(EvictionRule::kLru, 5, 12);
  CHECK(story(empty, {0}) == "0");
  // The free slots are the ring, and the last of those that pass stay.
  CHECK(story(empty, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) == "0+ 1@ 2@ 3@ 4@ 5@ 6 7 8 9");
  CHECK(empty.slot_of(0, 0) == 0);
  CHECK(empty.slot_of(0, 5) == kNone);

  CachePolicy roomy = one_layer(EvictionRule::kLru, 7, 12);
  CHECK(story(roomy, {0, 1, 2, 3, 4, 5, 6, 7, 8}) == "0 1 2 3@ 4@ 5 6 7 8");
}

TEST_CASE("layers of one pool compete, layers of two do not") {
  CachePolicy shared({EvictionRule::kLru, {2}, {{4, 0}, {4, 0}}});
  CHECK(story(shared, {1}, 0) == "1");
  CHECK(story(shared, {1}, 1) == "1");
  CHECK(story(shared, {2}, 1) == "0.1<2");
  CachePolicy apart({EvictionRule::kLru, {1, 1}, {{4, 0}, {4, 1}}});
  CHECK(story(apart, {1}, 0) == "1");
  CHECK(story(apart, {1}, 1) == "1");
  CHECK(story(apart, {2}, 1) == "1<2");
  CHECK(story(apart, {1}, 0) == "1+");
}

TEST_CASE("what did not arrive leaves its slot free") {
  CachePolicy policy = one_layer(EvictionRule::kLru, 2);
  CHECK(story(policy, {1, 2}) == "1 2");
  const int32_t slot = policy.slot_of(0, 1);
  policy.forget(0, 1);
  policy.forget(0, 1);
  CHECK(policy.slot_of(0, 1) == kNone);
  CHECK(story(policy, {3}) == "3");
  CHECK(policy.slot_of(0, 3) == slot);
}

TEST_CASE("uses have a bound, where those of the pool are halved") {
  CachePolicy policy = one_layer(EvictionRule::kLfu, 2);
  for (int call = 0; call < 3; ++call) story(policy, {0});
  for (int call = 1; call < kMostUses; ++call) story(policy, {1});
  CHECK(story(policy, {1}) == "1+");  // halved: 0 has one use, 1 has kMostUses / 2
  CHECK(story(policy, {2}) == "0<2");
  CHECK(story(policy, {0}) == "2<0");  // 2 has one use, and 0 two
}

TEST_CASE("who is expected takes free places, and those of the least expected") {
  CachePolicy policy = one_layer(EvictionRule::kLru, 4);
  const auto prefetched = [&](const std::vector<int32_t>& experts, int64_t most) {
    std::string text;
    for (const ExpertPlace& place : policy.prefetch(0, experts, most)) {
      if (!text.empty()) text += ' ';
      if (place.evicted_expert != kNone) text += std::to_string(place.evicted_expert) + '<';
      text += std::to_string(place.expert);
    }
    return text;
  };
  CHECK(story(policy, {0}) == "0");
  CHECK(story(policy, {1}) == "1");
  CHECK(prefetched({1, 5, 6}, 1) == "5");  // a free place, and 1 is there
  CHECK(prefetched({}, 3).empty());
  CHECK(story(policy, {2}) == "2");
  // 5 was expected in vain: nobody has used it. 0 is expected, but less than 6, and 2 was used just now.
  CHECK(prefetched({1, 6, 7, 0, 8}, 9) == "5<6 0<7");
  PrefetchCounts counts = policy.prefetch_counts(0);
  CHECK(counts.given == 3);
  CHECK(counts.wasted == 1);
  CHECK(story(policy, {7}) == "7+");
  policy.forget(0, 6);
  counts = policy.prefetch_counts(0);
  CHECK(counts.used == 1);
  CHECK(counts.dropped == 1);

  CachePolicy fixed = one_layer(EvictionRule::kStatic, 2);
  CHECK(story(fixed, {3}) == "3");
  CHECK(fixed.prefetch(0, {4, 5}, 2).size() == 1);
  CHECK(fixed.slot_of(0, 3) != kNone);
  CHECK(failure_of([&] { fixed.prefetch(0, {99}, 1); }).code == ErrorCode::kInvalidArgument);
}

TEST_CASE("a call that cannot be is refused and changes nothing") {
  CachePolicy policy = one_layer(EvictionRule::kLru, 2, 4);
  const auto refused = [&](int32_t layer, const std::vector<int32_t>& experts) {
    try {
      policy.plan(layer, experts.data(), static_cast<int64_t>(experts.size()));
    } catch (const FailureException& error) {
      return error.failure().code == ErrorCode::kInvalidArgument;
    }
    return false;
  };
  CHECK(refused(0, {1, 1}));
  CHECK(refused(0, {2, 1}));
  CHECK(refused(0, {1, 4}));
  CHECK(refused(0, {-1}));
  CHECK(refused(1, {0}));
  CHECK(policy.slot_of(0, 1) == kNone);
  const CacheShape without_slots{EvictionRule::kLru, {0}, {{4, 0}}};
  const CacheShape without_pool{EvictionRule::kLru, {1}, {{4, 1}}};
  CHECK_THROWS_AS(CachePolicy{without_slots}, FailureException);
  CHECK_THROWS_AS(CachePolicy{without_pool}, FailureException);
}

TEST_CASE(
    "on any trace a place says what the slots hold, and a narrow call ends with all it needs") {
  for (const EvictionRule rule :
       {EvictionRule::kLru, EvictionRule::kLfu, EvictionRule::kLfru, EvictionRule::kStatic}) {
    Random random(static_cast<uint64_t>(rule) + 1);
    const std::vector<int32_t> slots = {3, 9};
    CachePolicy policy({rule, slots, {{12, 0}, {7, 1}, {12, 1}}});
    const int32_t num_experts[] = {12, 7, 12};
    const size_t pool_of[] = {0, 1, 1};
    std::map<std::pair<size_t, int32_t>, std::pair<int32_t, int32_t>> held;  // slot to owner
    Every true_to_slots, kept;
    for (int call = 0; call < 3000; ++call) {
      const auto layer = static_cast<int32_t>(random.below(3));
      const size_t pool = pool_of[layer];
      std::vector<int32_t> experts;
      for (int32_t expert = 0; expert < num_experts[layer]; ++expert)
        if (random.uniform() < (call % 10 == 0 ? 0.8 : 0.2)) experts.push_back(expert);
      const auto count = static_cast<int64_t>(experts.size());
      const bool is_narrow = count <= slots[pool];
      const std::vector<ExpertPlace>& places = policy.plan(layer, experts.data(), count);
      // Hits are found before anybody leaves.
      for (const ExpertPlace& place : places) {
        const auto at = held.find({pool, place.slot});
        const std::pair<int32_t, int32_t> owner{layer, place.expert};
        true_to_slots.that(place.is_hit == (at != held.end() && at->second == owner) &&
                           !(place.is_hit && place.passes));
      }
      int64_t num_evicted = 0;
      for (const ExpertPlace& place : places) {
        true_to_slots.that(!place.passes || !is_narrow || rule == EvictionRule::kStatic);
        if (place.is_hit) continue;
        if (place.slot == kNone) {
          true_to_slots.that(place.passes && rule == EvictionRule::kStatic);
          continue;
        }
        true_to_slots.that(place.slot >= 0 && place.slot < slots[pool]);
        const auto at = held.find({pool, place.slot});
        const std::pair<int32_t, int32_t> evicted{place.evicted_layer, place.evicted_expert};
        if (at == held.end()) {
          true_to_slots.that(place.evicted_expert == kNone);
        } else {
          true_to_slots.that(rule != EvictionRule::kStatic && at->second == evicted);
          ++num_evicted;
        }
        held[{pool, place.slot}] = {layer, place.expert};
        if (place.passes) held.erase({pool, place.slot});
      }
      true_to_slots.that(is_narrow || num_evicted <= kMostRing);
      for (const int32_t expert : experts)
        if (is_narrow && rule != EvictionRule::kStatic)
          kept.that(policy.slot_of(layer, expert) != kNone);
      // The n-th read fails.
      if (call % 7 == 0 && count > 0) {
        const int32_t slot = policy.slot_of(layer, experts[0]);
        policy.forget(layer, experts[0]);
        if (slot != kNone) held.erase({pool, slot});
      }
    }
    true_to_slots.check("places");
    kept.check("what a narrow call needs has a slot after it");
  }
}

TEST_SUITE_END();
