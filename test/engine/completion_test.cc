// The way back: one wake for all that waits, order, and silence once it is closed.
#include "engine/completion.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "fixture.h"

using namespace engine_test;
using Event = CompletionQueue::Event;

TEST_SUITE_BEGIN("completion");

TEST_CASE("events come in order, and their owner is woken once for those that wait") {
  int wakes = 0;
  CompletionQueue queue([&] { ++wakes; });
  queue.post({7, Event::kProgress});
  queue.post({{7, Event::kDone}, {8, Event::kDone}});
  queue.post(std::vector<Event>{});
  CHECK(wakes == 1);
  CHECK_FALSE(queue.is_empty());
  const std::vector<Event> events = queue.take();
  REQUIRE(events.size() == 3);
  CHECK(events[0].call_id == 7);
  CHECK(events[0].kind == Event::kProgress);
  CHECK(events[1].call_id == 7);
  CHECK(events[1].kind == Event::kDone);
  CHECK(events[2].call_id == 8);
  CHECK(queue.is_empty());
  CHECK(queue.take().empty());
  queue.post({9, Event::kDone});
  CHECK(wakes == 2);
}

TEST_CASE("a closed queue wakes nobody and holds nothing") {
  int wakes = 0;
  CompletionQueue queue([&] { ++wakes; });
  queue.post({1, Event::kDone});
  queue.close();
  queue.post({2, Event::kDone});
  CHECK(wakes == 1);
  CHECK(queue.take().empty());
}

TEST_CASE("whoever waits for the owner goes on when it takes its events, or closes the queue") {
  CompletionQueue queue([] {});
  queue.post({1, Event::kDone});
  queue.wait_taken(std::chrono::milliseconds(1));
  CHECK_FALSE(queue.is_empty());
  std::atomic<bool> is_over{false};
  std::thread waiting([&] {
    queue.wait_taken(std::chrono::hours(1));
    is_over = true;
  });
  SUBCASE("it takes them") { CHECK(queue.take().size() == 1); }
  SUBCASE("it closes") { queue.close(); }
  CHECK(wait_until([&] { return is_over.load(); }));
  waiting.join();
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
