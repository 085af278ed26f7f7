// The way back: one wake per event, order, and silence once it is closed.
#include "engine/completion.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "fixture.h"

using namespace engine_test;
using Event = CompletionQueue::Event;

TEST_SUITE_BEGIN("completion");

TEST_CASE("events come in order, each with a wake") {
  int wakes = 0;
  CompletionQueue queue([&] { ++wakes; });
  queue.post({7, Event::kProgress});
  queue.post({7, Event::kDone});
  queue.post({8, Event::kDone});
  CHECK(wakes == 3);
  Event event = {};
  CHECK(queue.pop(&event));
  CHECK(event.call_id == 7);
  CHECK(event.kind == Event::kProgress);
  CHECK(queue.pop(&event));
  CHECK(event.kind == Event::kDone);
  CHECK(queue.pop(&event));
  CHECK(event.call_id == 8);
  CHECK_FALSE(queue.pop(&event));
}

TEST_CASE("a closed queue wakes nobody and holds nothing") {
  int wakes = 0;
  CompletionQueue queue([&] { ++wakes; });
  queue.post({1, Event::kDone});
  queue.close();
  queue.post({2, Event::kDone});
  CHECK(wakes == 1);
  Event event = {};
  CHECK_FALSE(queue.pop(&event));
}

TEST_CASE("close returns when no thread is inside of the wake any more") {
  std::atomic<bool> is_inside{false};
  std::atomic<bool> was_inside{false};
  CompletionQueue queue([&] {
    is_inside = true;
    was_inside = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    is_inside = false;
  });
  std::thread poster([&] { queue.post({1, Event::kDone}); });
  REQUIRE(wait_until([&] { return was_inside.load(); }));
  queue.close();
  CHECK_FALSE(is_inside);
  poster.join();
}

TEST_CASE("many threads post, and every event arrives once") {
  Inbox inbox;
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < 250; ++i) inbox.queue()->post({thread * 250 + i, Event::kDone});
    });
  }
  auto done = inbox.wait_done(1000);
  for (std::thread& thread : threads) thread.join();
  std::sort(done.begin(), done.end());
  REQUIRE(done.size() == 1000);
  CHECK(std::adjacent_find(done.begin(), done.end()) == done.end());
}

TEST_SUITE_END();
