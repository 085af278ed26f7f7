// Layers whose experts are read when a call needs them, on the CPU backend: they give the bits of the
// layer that has all of them in memory, and a file that fails costs one call.
#include "engine/expert_cache.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "cached_layer.h"
#include "read_faults.h"

using namespace engine_test;

TEST_SUITE_BEGIN("expert cache");

TEST_CASE("a cache takes one expert more than a token has, and says what that is") {
  const uint64_t bytes = block_bytes();
  const Failure failure = failure_of([&] {
    CacheOptions cache;
    cache.host_bytes = (kTopK + 1) * bytes - 1;
    LayerState::create(description_of(cache), make_cpu());
  });
  CHECK(failure.code == ErrorCode::kCacheTooSmall);
  CHECK(failure.needed_bytes == (kTopK + 1) * bytes);
  CHECK(failure.free_bytes == (kTopK + 1) * bytes - 1);
  const auto blocks_of = [&](EvictionRule rule, int64_t blocks) {
    const CachePlan plan =
        plan_cache(rule, static_cast<uint64_t>(blocks) * bytes, bytes, kExperts, kTopK);
    return std::pair(plan.num_slots, plan.num_ring);
  };
  using Blocks = std::pair<int32_t, int32_t>;
  CHECK(blocks_of(EvictionRule::kLru, 3) == Blocks(3, 0));
  CHECK(blocks_of(EvictionRule::kLru, 80) == Blocks(8, 0));
  // Where experts never leave, those that find no slot need a place beside them.
  CHECK(blocks_of(EvictionRule::kStatic, 3) == Blocks(2, 1));
  CHECK(blocks_of(EvictionRule::kStatic, 7) == Blocks(3, 4));
  CHECK(blocks_of(EvictionRule::kStatic, 8) == Blocks(8, 0));
  // Where a token takes all experts there is no other.
  CHECK(plan_cache(EvictionRule::kLru, 2 * bytes, bytes, 2, 2).num_slots == 2);
}

TEST_CASE("any capacity, policy and number of readers gives the bits of the resident layer") {
  for (int64_t blocks = kTopK + 1; blocks <= kExperts; ++blocks) {
    for (const EvictionRule rule :
         {EvictionRule::kLru, EvictionRule::kLfu, EvictionRule::kLfru, EvictionRule::kStatic}) {
      CAPTURE(blocks);
      CacheOptions cache = cache_of(blocks);
      cache.rule = rule;
      cache.num_readers = static_cast<int32_t>(1 + blocks % 4);
      cache.direct = blocks % 2 == 0 ? DirectReads::kAuto : DirectReads::kOff;
      const Cached cached(cache);
      for (uint32_t seed = 10; seed < 18; ++seed)
        CHECK(cached.is_right(seed % 4 == 0 ? 33 : seed % 3 + 1, seed));
    }
  }
}

TEST_CASE("hits, misses and bytes are counted, and a call that finds all reads nothing") {
  const Cached cached(cache_of(kExperts));
  const auto first = cached.call(1, 20);
  REQUIRE(first->run().is_ok());
  CHECK(cached.stats().hits == 0);
  CHECK(cached.stats().misses == kTopK);
  CHECK(cached.stats().bytes_read == kTopK * 3 * kMatrix);
  CHECK(first->times().fetched_bytes == kTopK * 3 * kMatrix);
  const auto again = cached.call(1, 20);
  REQUIRE(again->run().is_ok());
  CHECK(cached.stats().hits == kTopK);
  CHECK(cached.stats().misses == kTopK);
  CHECK(again->times().fetched_bytes == 0);
  CHECK(cached.stats().evictions == 0);
}

TEST_CASE("a call that needs more than there are slots takes free ones, and evicts few") {
  const Cached cached(cache_of(kExperts - 1));
  REQUIRE(cached.run(1, 20).is_ok());
  const auto wide = cached.call(64, 21);
  REQUIRE(wide->run().is_ok());
  REQUIRE(wide->experts().size() == kExperts);
  const uint64_t hits = cached.stats().hits;
  REQUIRE(cached.run(1, 20).is_ok());
  CHECK(cached.stats().hits == hits + kTopK);
  CHECK(cached.stats().evictions == 0);
  // All slots but none for the one expert that is missing: its ring is one slot.
  for (uint64_t call = 1; call <= 3; ++call) {
    CHECK(cached.is_right(64, 21));
    CHECK(cached.stats().evictions == call);
    CHECK(cached.stats().hits == hits + kTopK + call * (kExperts - 1));
  }
}

TEST_CASE("many readers of a narrow ring take their turns") {
  for (const int64_t blocks : {kTopK + 1, kExperts - 1}) {
    CacheOptions cache = cache_of(blocks);
    cache.num_readers = 8;
    const Cached cached(cache);
    for (uint32_t seed = 10; seed < 60; ++seed) CHECK(cached.is_right(33, seed));
  }
}

TEST_CASE("layers that share a cache compete for its slots, and one of them may go") {
  for (const EvictionRule rule : {EvictionRule::kLru, EvictionRule::kLfru, EvictionRule::kStatic}) {
    const Checkpoint file;
    const auto executor = make_cpu();
    CacheOptions cache = cache_of(kTopK + 1);
    cache.rule = rule;
    auto first = LayerState::create(description_of(cache), executor);
    cache.pool = first->cache()->pool();
    const auto second = LayerState::create(description_of(cache), executor);
    REQUIRE(load(first, file.path()).is_ok());
    REQUIRE(load(second, file.path()).is_ok());
    const auto is_right = [](const std::shared_ptr<LayerState>& layer, int64_t rows,
                             uint32_t seed) {
      const auto call = std::make_shared<Rows>(layer, rows, seed);
      return call->run().is_ok() && same(call->output, expected(rows, seed));
    };
    for (uint32_t seed = 10; seed < 22; ++seed) {
      CHECK(is_right(first, seed % 5 == 0 ? 33 : seed % 3 + 1, seed));
      CHECK(is_right(second, seed % 4 == 0 ? 33 : 1, seed));
    }
    const bool evicts = rule != EvictionRule::kStatic;
    CHECK((first->cache()->stats().evictions > 0) == evicts);
    CHECK((second->cache()->stats().evictions > 0) == evicts);
    first.reset();
    for (uint32_t seed = 10; seed < 22; ++seed) CHECK(is_right(second, seed % 3 + 1, seed));
    // What has gone has left its slots: those of both hold six of the eight experts.
    if (evicts) CHECK(second->cache()->pool()->num_slots() == 2 * (kTopK + 1));
  }
}

TEST_CASE("a cache begins with the experts that it is told, as many as have slots") {
  const Checkpoint file;
  const auto layer = LayerState::create(description_of(cache_of(kTopK + 1)), make_cpu());
  const auto probe = std::make_shared<Rows>(layer, 1, 20);
  REQUIRE(load(layer, file.path()).is_ok());
  REQUIRE(probe->run().is_ok());
  std::vector<int32_t> warm = probe->experts();
  for (int32_t expert = 0; expert < kExperts; ++expert)
    if (std::find(warm.begin(), warm.end(), expert) == warm.end()) warm.push_back(expert);
  REQUIRE(load(layer, file.path(), items_of_file(), warm).is_ok());
  const CacheStats before = layer->cache()->stats();
  const auto call = std::make_shared<Rows>(layer, 1, 20);
  REQUIRE(call->run().is_ok());
  CHECK(same(call->output, expected(1, 20)));
  CHECK(call->times().fetched_bytes == 0);
  CHECK(layer->cache()->stats().hits == before.hits + kTopK);
  const auto wide = std::make_shared<Rows>(layer, 40, 21);
  REQUIRE(wide->run().is_ok());
  CHECK(same(wide->output, expected(40, 21)));
}

TEST_CASE("a read that fails, at any place, costs its call and no other") {
  for (const bool direct : {true, false}) {
    for (int nth = 0; nth < 12; ++nth) {
      CAPTURE(nth);
      CacheOptions cache = cache_of(kExperts - 1);
      cache.direct = direct ? DirectReads::kAuto : DirectReads::kOff;
      const Cached cached(cache);
      REQUIRE(cached.is_right(1, 30));
      {
        const ReadFaults faults(nth % 2 == 0 ? ReadFault::kFails : ReadFault::kEnds, nth);
        const Failure failure = cached.run(40, 31);
        CHECK(failure.code == ErrorCode::kIo);
        CHECK(failure.message.find(cached.file.path()) != std::string::npos);
      }
      CHECK(cached.is_right(1, 30));
      CHECK(cached.is_right(40, 31));
    }
  }
}

TEST_CASE("reads that bring a part of what was asked for go on") {
  CacheOptions cache = cache_of(kTopK + 1);
  cache.direct = DirectReads::kOff;
  const Cached cached(cache);
  const ReadFaults faults(ReadFault::kShort, 0);
  CHECK(cached.is_right(40, 32));
}

TEST_CASE("a matrix that begins on no page is one read with the pages around it") {
  const Cached cached(cache_of(kTopK + 1));
  const ExpertSource source({cached.file.path()}, items_of_file(), kExperts, true,
                            DirectReads::kAuto);
  std::vector<uint8_t> block(block_bytes() + 64);
  uint8_t* const data = block.data() + (64 - reinterpret_cast<uintptr_t>(block.data()) % 64);
  ReadScratch scratch;
  for (int64_t expert = 0; expert < kExperts; ++expert) {
    const int before = num_reads();
    const auto slot_of = [&](MatrixKind kind) {
      return cached.layer->expert_slot(data, expert, kind);
    };
    source.read(cached.layer->executor(), expert, slot_of, scratch, [] {}, 4096);
    CHECK(num_reads() - before == 3);
  }
}

TEST_CASE("a file that is cut or written to fails calls that read it, and those alone") {
  const Cached cached(cache_of(kExperts - 1));
  REQUIRE(cached.is_right(1, 40));
  std::string problem;
  SUBCASE("cut") {
    cached.file.cut(Checkpoint::kHeader + 10);
    problem = "it ends before";
  }
  SUBCASE("written to") {
    cached.file.write(2);
    cached.file.age();
    problem = "it has changed";
  }
  const Failure failure = cached.run(40, 41);
  CHECK(failure.code == ErrorCode::kIo);
  CHECK_MESSAGE(failure.message.find(problem) != std::string::npos, failure.message);
  CHECK(cached.is_right(1, 40));
  CHECK(cached.run(40, 41).code == ErrorCode::kIo);
}

TEST_CASE("a file that another one replaces by name is read on as it was") {
  const Cached cached(cache_of(kTopK + 1));
  cached.file.replace();
  CHECK(cached.is_right(40, 42));
  CHECK(cached.is_right(1, 43));
}

TEST_CASE("what a load finds wrong leaves a layer that can be loaded again") {
  const Checkpoint file;
  const auto layer = LayerState::create(description_of(cache_of(4)), make_cpu());
  CHECK(load(layer, "/tmp/sparse-experts-nowhere").code == ErrorCode::kIo);
  std::vector<LoadItem> items = items_of_file();
  items.pop_back();
  CHECK(load(layer, file.path(), items).code == ErrorCode::kInvalidArgument);
  file.cut(Checkpoint::kHeader + kExperts * 3 * kMatrix - 1);
  CHECK(load(layer, file.path()).code == ErrorCode::kIo);
  file.write(1);
  CHECK(load(layer, file.path()).is_ok());
  const auto call = std::make_shared<Rows>(layer, 9, 50);
  CHECK(call->run().is_ok());
  CHECK(same(call->output, expected(9, 50)));
}

TEST_CASE("an abort ends the wait for reads") {
  const Cached cached(cache_of(kTopK + 1));
  const auto call = cached.call(40, 60);
  {
    const ReadFaults faults(ReadFault::kWaits, 2);
    std::thread other([&] {
      CHECK(wait_until([&] { return faults.num_waiting() > 0; }));
      call->cancel = 1;
      // A read that is under way is not taken back; what it brings is dropped.
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      faults.release();
    });
    CHECK(call->run().code == ErrorCode::kCancelled);
    other.join();
  }
  CHECK(cached.is_right(40, 60));
}

TEST_CASE("calls of several threads and layers of one device, joint ones and aborted ones") {
  const auto executor = make_cpu();
  const Checkpoint file;
  std::vector<std::shared_ptr<LayerState>> layers;
  for (const int64_t blocks : {3, 6}) {
    layers.push_back(LayerState::create(description_of(cache_of(blocks), 16), executor));
    REQUIRE(load(layers.back(), file.path()).is_ok());
  }
  constexpr uint32_t kCalls = 40;
  std::vector<std::vector<std::shared_ptr<Rows>>> calls(3);
  Inbox inbox;
  std::atomic<uint64_t> submitted{0};
  std::atomic<size_t> dropped{0};
  std::vector<std::thread> threads;
  for (uint32_t thread = 0; thread < calls.size(); ++thread) {
    threads.emplace_back([&, thread] {
      for (uint32_t i = 0; i < kCalls; ++i) {
        auto call = std::make_shared<Rows>(layers[i % 2], 1 + i % 3, 100 + thread * kCalls + i);
        call->call_id = ++submitted;
        call->completions = inbox.queue();
        inbox.hold(call);
        executor->submit(call);
        calls[thread].push_back(call);
        if (i % 7 == 0 && executor->cancel(*call) == CancelResult::kDropped) {
          ++dropped;
          calls[thread].pop_back();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(inbox.wait_done(calls.size() * kCalls - dropped).size() == calls.size() * kCalls - dropped);
  // Every call that was not aborted has the bits of its rows alone.
  for (const auto& of_thread : calls) {
    for (const auto& call : of_thread) {
      if (call->cancel != 0) continue;
      CHECK(call->failure().is_ok());
      CHECK(same(call->output, expected(call->num_tokens(), call->seed())));
    }
  }
}

TEST_CASE("of calls that run as one only those fail that need what cannot be read") {
  const Cached cached(cache_of(kExperts - 1), 64);
  // Two calls of one row, whose experts differ; those of the first are here.
  uint32_t other = 71;
  const auto first = cached.call(1, 70);
  REQUIRE(first->run().is_ok());
  const auto needs_others = [&](uint32_t seed) {
    const auto probe = std::make_shared<Rows>(cached.layer, 1, seed);
    REQUIRE(probe->run().is_ok());
    return probe->experts() != first->experts();
  };
  while (!needs_others(other)) ++other;
  // Read anew: the slots of a fresh layer are empty.
  const Cached fresh(cache_of(kExperts - 1), 64);
  REQUIRE(fresh.run(1, 70).is_ok());
  fresh.file.cut(Checkpoint::kHeader);
  Inbox inbox;
  std::vector<std::shared_ptr<Rows>> calls = {fresh.call(1, 70), fresh.call(1, other)};
  DeviceExecutor& executor = fresh.layer->executor();
  executor.run_exclusive([&] {
    for (size_t i = 0; i < calls.size(); ++i) {
      calls[i]->call_id = i + 1;
      calls[i]->completions = inbox.queue();
      inbox.hold(calls[i]);
      executor.submit(calls[i]);
    }
  });
  inbox.wait_done(2);
  CHECK(calls[0]->times().rows == 2);
  CHECK(calls[0]->failure().is_ok());
  CHECK(same(calls[0]->output, expected(1, 70)));
  CHECK(calls[1]->failure().code == ErrorCode::kIo);
}

TEST_SUITE_END();
