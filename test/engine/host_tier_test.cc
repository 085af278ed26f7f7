// Experts that a GPU has no room for, in memory of the host: which of them, and where.
#include "engine/host_tier.h"

#include <doctest/doctest.h>

#include <cstring>
#include <set>

#include "fixture.h"

using namespace engine_test;

TEST_SUITE_BEGIN("host tier");

namespace {

constexpr uint64_t kBlockBytes = 192;

struct Tier {
  Stub stub;
  std::shared_ptr<DeviceExecutor> executor = make_executor();
  HostTier tier;

  explicit Tier(int64_t blocks, EvictionRule rule = EvictionRule::kLru)
      : tier(rule, static_cast<uint64_t>(blocks) * kBlockBytes + kBlockBytes - 1, kBlockBytes, 8) {
    tier.allocate(executor);
  }
};

// All of them pass on the device.
std::vector<HostPolicy::Miss> passing(const std::vector<int32_t>& experts) {
  std::vector<HostPolicy::Miss> misses;
  misses.reserve(experts.size());
  for (const int32_t expert : experts) misses.push_back({expert, true});
  return misses;
}

int64_t num_hits(const std::vector<HostTier::Place>& places) {
  return std::count_if(places.begin(), places.end(),
                       [](const auto& place) { return place.is_hit; });
}

}  // namespace

TEST_CASE("without memory everything goes past") {
  HostTier tier(EvictionRule::kLru, 0, kBlockBytes, 8);
  CHECK(tier.num_blocks() == 0);
  CHECK(tier.bytes() == 0);
  for (const auto& place : tier.plan(passing({0, 3, 7}))) {
    CHECK(place.block == nullptr);
    CHECK_FALSE(place.is_hit);
  }
  tier.forget(3);
}

TEST_CASE("memory for less than one expert is too little, and for more than all is all") {
  const Failure failure =
      failure_of([] { HostTier(EvictionRule::kLru, kBlockBytes - 1, kBlockBytes, 8); });
  CHECK(failure.code == ErrorCode::kCacheTooSmall);
  CHECK(failure.needed_bytes == kBlockBytes);
  CHECK(failure.free_bytes == kBlockBytes - 1);
  CHECK(HostTier(EvictionRule::kLru, 100 * kBlockBytes, kBlockBytes, 8).num_blocks() == 8);
}

TEST_CASE("it is memory that the device copies from, and goes with its owner") {
  Stub stub;
  {
    const auto executor = make_executor();
    HostTier tier(EvictionRule::kLru, 3 * kBlockBytes, kBlockBytes, 8);
    tier.allocate(executor);
    CHECK(stub.live_bytes() == 3 * kBlockBytes);
  }
  CHECK(stub.live_bytes() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("no block changes hands within a call, and those that are here stay") {
  for (const EvictionRule rule :
       {EvictionRule::kLru, EvictionRule::kLfu, EvictionRule::kLfru, EvictionRule::kStatic}) {
    Tier of(3, rule);
    const auto first = of.tier.plan(passing({0, 1, 2, 3, 4}));
    REQUIRE(first.size() == 5);
    CHECK(num_hits(first) == 0);
    std::set<uint8_t*> blocks;
    for (int i = 0; i < 3; ++i) blocks.insert(first[static_cast<size_t>(i)].block);
    CHECK(blocks.size() == 3);
    CHECK(blocks.count(nullptr) == 0);
    CHECK(first[3].block == nullptr);
    CHECK(first[4].block == nullptr);
    // A wider call finds what there is, and has room for nothing else.
    const auto again = of.tier.plan(passing({0, 1, 2, 3, 4, 5}));
    CHECK(num_hits(again) == 3);
    for (size_t i = 0; i < 3; ++i) CHECK(again[i].block == first[i].block);
    for (size_t i = 3; i < 6; ++i) CHECK(again[i].block == nullptr);
    // One that is not here takes a place, unless nobody leaves.
    const auto other = of.tier.plan(passing({6}));
    CHECK((other[0].block != nullptr) == (rule != EvictionRule::kStatic));
    CHECK_FALSE(other[0].is_hit);
  }
}

TEST_CASE("what a fixed set keeps on the device takes no block here") {
  for (const EvictionRule rule : {EvictionRule::kLru, EvictionRule::kStatic}) {
    const bool is_fixed = rule == EvictionRule::kStatic;
    Tier of(1, rule);
    const std::vector<HostPolicy::Miss> misses = {{2, false}, {5, true}};
    const auto places = of.tier.plan(misses);
    CHECK((places[0].block == nullptr) == is_fixed);
    CHECK((places[1].block == nullptr) != is_fixed);
    // It stays.
    CHECK(of.tier.plan(misses)[is_fixed ? 1 : 0].is_hit);
  }
}

TEST_CASE("what did not arrive is not here") {
  Tier of(2);
  of.tier.plan(passing({4, 5}));
  of.tier.forget(4);
  const auto places = of.tier.plan(passing({4, 5}));
  CHECK_FALSE(places[0].is_hit);
  CHECK(places[0].block != nullptr);
  CHECK(places[1].is_hit);
  of.tier.empty();
  CHECK(num_hits(of.tier.plan(passing({4, 5}))) == 0);
}
