// Experts that are read before a call asks for them: they change no bit, they come behind every call that
// reads, and what becomes of them is counted.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "cached_layer.h"
#include "engine/reader_pool.h"
#include "read_faults.h"

using namespace engine_test;

namespace {

constexpr int64_t kBlocks = 2 * kTopK;

bool is_right(const std::shared_ptr<LayerState>& layer, int64_t rows, uint32_t seed) {
  const auto call = std::make_shared<Rows>(layer, rows, seed);
  return call->run().is_ok() && same(call->output, expected(rows, seed));
}

// What a row of a seed needs, which its router alone decides.
std::vector<int32_t> experts_of(uint32_t seed) {
  static const Cached probe(cache_of(kExperts));
  const auto call = probe.call(1, seed);
  REQUIRE(call->run().is_ok());
  return call->experts();
}

// Seeds of rows that need other experts than those before them.
std::vector<uint32_t> seeds_apart(size_t count) {
  std::vector<uint32_t> seeds;
  std::vector<int32_t> taken;
  for (uint32_t seed = 10; seeds.size() < count; ++seed) {
    REQUIRE(seed < 100'000);
    const std::vector<int32_t> experts = experts_of(seed);
    const bool is_apart = std::none_of(experts.begin(), experts.end(), [&](int32_t expert) {
      return std::find(taken.begin(), taken.end(), expert) != taken.end();
    });
    if (!is_apart) continue;
    seeds.push_back(seed);
    taken.insert(taken.end(), experts.begin(), experts.end());
  }
  return seeds;
}

// Two layers of a model, the second of which has experts read ahead.
struct Layers {
  explicit Layers(CacheOptions cache, bool has_one_pool = false) : executor(make_cpu()) {
    cache.prefetches = true;
    cache.prefetch_bytes = kTopK * block_bytes();
    first = LayerState::create(description_of(cache), executor);
    cache.sequence = first->cache()->sequence();
    if (has_one_pool) cache.pool = first->cache()->pool();
    second = LayerState::create(description_of(cache), executor);
    REQUIRE(load(first, file.path()).is_ok());
    REQUIRE(load(second, file.path()).is_ok());
  }

  // Afterwards a call of the first layer with seed `a` expects those of the second with seed `b`, none of
  // which is there.
  void teach(uint32_t a, uint32_t b, const std::vector<uint32_t>& others) const {
    REQUIRE(is_right(first, 1, a));
    REQUIRE(is_right(second, 1, b));
    for (const uint32_t seed : others) REQUIRE(is_right(second, 1, seed));
  }
  void wait_until_idle() const {
    CHECK(wait_until([&] { return executor->reader_pool()->ahead().is_idle(); }));
  }

  Checkpoint file;
  std::shared_ptr<DeviceExecutor> executor;
  std::shared_ptr<LayerState> first, second;
};

}  // namespace

TEST_SUITE_BEGIN("prefetch");

TEST_CASE("experts that followed before are there when the next layer asks") {
  const std::vector<uint32_t> seeds = seeds_apart(3);
  const Layers layers(cache_of(kBlocks));
  layers.teach(99, seeds[0], {seeds[1], seeds[2]});
  const CacheStats before = layers.second->cache()->stats();
  REQUIRE(is_right(layers.first, 1, 99));
  layers.wait_until_idle();
  CHECK(is_right(layers.second, 1, seeds[0]));
  const CacheStats after = layers.second->cache()->stats();
  CHECK(after.hits - before.hits == kTopK);
  CHECK(after.misses == before.misses);
  CHECK(after.bytes_read == before.bytes_read);
  CHECK(after.bytes_prefetched - before.bytes_prefetched == kTopK * 3 * kMatrix);
  CHECK(after.prefetched.given - before.prefetched.given == kTopK);
  CHECK(after.prefetched.used - before.prefetched.used == kTopK);
  CHECK(after.evictions - before.evictions == kTopK);
  // Those of the last call stayed.
  CHECK(is_right(layers.second, 1, seeds[2]));
  CHECK(layers.second->cache()->stats().misses == after.misses);
}

TEST_CASE("what was expected in vain is counted, and leaves first") {
  const std::vector<uint32_t> seeds = seeds_apart(4);
  const Layers layers(cache_of(kBlocks));
  layers.teach(99, seeds[0], {seeds[1], seeds[2]});
  REQUIRE(is_right(layers.first, 1, 99));
  layers.wait_until_idle();
  CHECK(is_right(layers.second, 1, seeds[3]));
  const CacheStats stats = layers.second->cache()->stats();
  CHECK(stats.prefetched.wasted == kTopK);
  CHECK(stats.prefetched.used == 0);
  CHECK(is_right(layers.second, 1, seeds[2]));
  CHECK(layers.second->cache()->stats().misses == stats.misses);
}

TEST_CASE("a call that comes drops what has not begun and ends what it does not need") {
  const std::vector<uint32_t> seeds = seeds_apart(4);
  CacheOptions cache = cache_of(kBlocks);
  cache.num_readers = 1;
  const Layers layers(cache);
  layers.teach(99, seeds[0], {seeds[1], seeds[2]});
  {
    const ReadFaults faults(ReadFault::kWaits, 0);
    REQUIRE(is_right(layers.first, 1, 99));
    CHECK(wait_until([&] { return faults.num_waiting() > 0; }));
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      faults.release();
    });
    CHECK(is_right(layers.second, 1, seeds[3]));
    other.join();
  }
  const CacheStats stats = layers.second->cache()->stats();
  CHECK(stats.prefetched.given == kTopK);
  CHECK(stats.prefetched.used == 0);
  // On a busy machine they may have come before the call did.
  CHECK(stats.prefetched.dropped + stats.prefetched.wasted == kTopK);
  CHECK(is_right(layers.second, 1, seeds[0]));
}

TEST_CASE("a call waits for what it needs and is under way") {
  const std::vector<uint32_t> seeds = seeds_apart(3);
  const Layers layers(cache_of(kBlocks));
  layers.teach(99, seeds[0], {seeds[1], seeds[2]});
  const CacheStats before = layers.second->cache()->stats();
  {
    const ReadFaults faults(ReadFault::kWaits, 0);
    REQUIRE(is_right(layers.first, 1, 99));
    CHECK(wait_until([&] { return faults.num_waiting() == 2; }));
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      faults.release();
    });
    CHECK(is_right(layers.second, 1, seeds[0]));
    other.join();
  }
  const CacheStats after = layers.second->cache()->stats();
  CHECK(after.misses == before.misses);
  CHECK(after.prefetched.used == kTopK);
  CHECK(after.prefetched.dropped == 0);
}

TEST_CASE("a read ahead that fails fails no call that does not wait for it") {
  const std::vector<uint32_t> seeds = seeds_apart(3);
  const Layers layers(cache_of(kBlocks));
  layers.teach(99, seeds[0], {seeds[1], seeds[2]});
  {
    const ReadFaults faults(ReadFault::kFails, 0);
    REQUIRE(is_right(layers.first, 1, 99));
    layers.wait_until_idle();
  }
  CHECK(is_right(layers.second, 1, seeds[0]));
  const CacheStats stats = layers.second->cache()->stats();
  CHECK(stats.prefetched.dropped == kTopK);
  CHECK(stats.prefetched.used == 0);
}

TEST_CASE("a call that waits for a read ahead that fails is told why") {
  const std::vector<uint32_t> seeds = seeds_apart(3);
  const Layers layers(cache_of(kBlocks));
  layers.teach(99, seeds[0], {seeds[1], seeds[2]});
  {
    const ReadFaults faults(ReadFault::kWaits, 0);
    REQUIRE(is_right(layers.first, 1, 99));
    CHECK(wait_until([&] { return faults.num_waiting() == 2; }));
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      layers.file.cut(Checkpoint::kHeader);
      faults.release();
    });
    const auto call = std::make_shared<Rows>(layers.second, 1, seeds[0]);
    CHECK(call->run().code == ErrorCode::kIo);
    other.join();
  }
  // What lies in memory still runs.
  CHECK(is_right(layers.second, 1, seeds[2]));
  layers.wait_until_idle();
}

TEST_CASE("a layer may go while experts of it are read ahead") {
  const std::vector<uint32_t> seeds = seeds_apart(3);
  for (const bool has_one_pool : {false, true}) {
    Layers layers(cache_of(kBlocks), has_one_pool);
    layers.teach(99, seeds[0], {seeds[1], seeds[2]});
    {
      const ReadFaults faults(ReadFault::kWaits, 0);
      REQUIRE(is_right(layers.first, 1, 99));
      std::thread other([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        faults.release();
      });
      layers.second.reset();
      other.join();
    }
    for (uint32_t seed = 30; seed < 40; ++seed) CHECK(is_right(layers.first, 1, seed));
  }
}

TEST_CASE(
    "with any capacity, policy, number of readers and timing the bits are the resident layer's") {
  for (int64_t blocks = kTopK + 1; blocks <= kExperts; ++blocks) {
    for (const EvictionRule rule :
         {EvictionRule::kLru, EvictionRule::kLfu, EvictionRule::kLfru, EvictionRule::kStatic}) {
      CAPTURE(blocks);
      CacheOptions cache = cache_of(blocks);
      cache.rule = rule;
      cache.num_readers = static_cast<int32_t>(1 + blocks % 3);
      const Layers layers(cache, blocks % 2 == 0);
      for (uint32_t step = 0; step < 24; ++step) {
        const uint32_t seed = 200 + step % 5;
        const int64_t rows = step % 7 == 6 ? 33 : step % 3 == 2 ? 2 : 1;
        CHECK(is_right(layers.first, rows, seed));
        if (step % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100 * step));
        CHECK(is_right(layers.second, rows, seed + 50));
      }
      const PrefetchCounts counts = layers.second->cache()->stats().prefetched;
      CHECK(counts.used + counts.wasted + counts.dropped <= counts.given);
    }
  }
}

TEST_SUITE_END();
