// The queue of a device: order, cancelling, leaving, exclusive work, what is freed when, and losses.
#include "engine/executor.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

#include "engine/backend_registry.h"
#include "fixture.h"

using namespace engine_test;

namespace {

void do_nothing(Task& /*task*/) {}

// Runs until it is cancelled.
void wait_for_cancel(Task& task) {
  wait_until([&] { return task.is_cancelled(); });
}

// A device on which task 1 runs until `release`, and task 2 waits. `order` says whose turn came when.
struct BusyDevice {
  Stub stub;
  std::shared_ptr<DeviceExecutor> executor = make_executor();
  Inbox inbox;
  std::atomic<bool> release{false};
  std::vector<int> order;  // written by whoever has the device

  BusyDevice() {
    std::atomic<bool> started{false};
    executor->submit(make_task(inbox, 1, [this, &started](Task& /*task*/) {
      started = true;
      wait_until([&] { return release.load(); });
      order.push_back(1);
    }));
    executor->submit(make_task(inbox, 2, [this](Task& /*task*/) { order.push_back(2); }));
    REQUIRE(wait_until([&] { return started.load(); }));
  }
};

}  // namespace

TEST_SUITE_BEGIN("executor");

TEST_CASE("tasks run in the order of submission, one at a time, and each completes once") {
  Stub stub;
  const auto executor = make_executor();
  Inbox inbox;
  std::atomic<int> running{0};
  std::atomic<bool> overlapped{false};
  std::vector<uint64_t> ran;
  for (uint64_t id = 1; id <= 20; ++id) {
    executor->submit(make_task(inbox, id, [&, id](Task& /*task*/) {
      if (++running != 1) overlapped = true;
      ran.push_back(id);
      --running;
    }));
  }
  const auto done = inbox.wait_done(20);
  CHECK(done.size() == 20);
  CHECK(done == ran);
  CHECK_FALSE(overlapped);
  CHECK(std::is_sorted(ran.begin(), ran.end()));
}

TEST_CASE("a waiting task is dropped, a running one is told to stop, a finished one is done") {
  Stub stub;
  const auto executor = make_executor();
  Inbox inbox;
  std::atomic<bool> started{false};
  std::atomic<bool> second_ran{false};
  const auto running = make_task(inbox, 1, [&](Task& task) {
    started = true;
    wait_for_cancel(task);
  });
  const auto waiting = make_task(inbox, 2, [&](Task& /*task*/) { second_ran = true; });
  executor->submit(running);
  executor->submit(waiting);
  REQUIRE(wait_until([&] { return started.load(); }));
  CHECK(executor->cancel(*waiting) == CancelResult::kDropped);
  CHECK(executor->cancel(*waiting) == CancelResult::kDone);
  CHECK(executor->cancel(*running) == CancelResult::kStopping);
  CHECK(inbox.wait_done(1) == std::vector<uint64_t>{1});
  CHECK(executor->cancel(*running) == CancelResult::kDone);
  executor->run_exclusive([] {});
  CHECK_FALSE(second_ran);
  CHECK(inbox.done() == 1);
}

TEST_CASE("an owner that leaves takes its tasks along, and no others") {
  Stub stub;
  const auto executor = make_executor();
  Inbox inbox;
  const int leaving = 0;
  const int staying = 0;
  std::atomic<bool> started{false};
  std::atomic<bool> ended{false};
  std::atomic<int> leaving_ran{0};
  executor->submit(make_task(
      inbox, 1,
      [&](Task& task) {
        started = true;
        wait_for_cancel(task);
        ended = task.is_cancelled();
      },
      &leaving));
  executor->submit(make_task(inbox, 2, do_nothing, &staying));
  executor->submit(make_task(inbox, 3, [&](Task& /*task*/) { ++leaving_ran; }, &leaving));
  REQUIRE(wait_until([&] { return started.load(); }));
  executor->drop_all(&leaving);
  CHECK(ended);
  const auto done = inbox.wait_done(2);
  CHECK(done == std::vector<uint64_t>{1, 2});
  CHECK(leaving_ran == 0);
}

TEST_CASE("a watched task goes before those that wait, and ends when it is not wanted") {
  BusyDevice device;
  SUBCASE("it runs") {
    const auto watched =
        make_task(device.inbox, 3, [&](Task& /*task*/) { device.order.push_back(3); });
    CHECK(device.executor->run_watched(watched, [&] {
      device.release = true;
      return true;
    }));
    device.inbox.wait_done(2);
    CHECK(device.order == std::vector<int>{1, 3, 2});
  }
  SUBCASE("it is dropped while another one runs") {
    const auto watched =
        make_task(device.inbox, 3, [&](Task& /*task*/) { device.order.push_back(3); });
    CHECK_FALSE(device.executor->run_watched(watched, [] { return false; }));
    device.release = true;
    device.inbox.wait_done(2);
    CHECK(device.order == std::vector<int>{1, 2});
  }
  SUBCASE("it is told to stop while it runs") {
    device.release = true;
    std::atomic<bool> runs{false};
    const auto watched = make_task(device.inbox, 3, [&](Task& task) {
      runs = true;
      wait_for_cancel(task);
    });
    CHECK(device.executor->run_watched(watched, [&] { return !runs; }));
    CHECK(watched->is_cancelled());
    device.inbox.wait_done(2);
    CHECK(device.order == std::vector<int>{1, 2});
  }
}

TEST_CASE("exclusive work excludes tasks and goes before those that wait") {
  BusyDevice device;
  std::thread caller([&] { device.executor->run_exclusive([&] { device.order.push_back(3); }); });
  // The caller is waiting by the time that the running task ends.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  device.release = true;
  caller.join();
  device.inbox.wait_done(2);
  CHECK(device.order == std::vector<int>{1, 3, 2});
}

TEST_CASE("what is discarded beside a running task is freed when it has ended, else at once") {
  Stub stub;
  const auto executor = make_executor();
  Inbox inbox;
  const auto take = [&] {
    void* data = nullptr;
    SeStatus status = {};
    REQUIRE(Stub::table()->memory_allocate(executor->device(), 256, &data, &status) == SE_OK);
    return data;
  };
  executor->discard(nullptr, take(), 256);
  CHECK(stub.live_bytes() == 0);

  std::atomic<bool> started{false};
  std::atomic<bool> release{false};
  executor->submit(make_task(inbox, 1, [&](Task& /*task*/) {
    started = true;
    wait_until([&] { return release.load(); });
  }));
  REQUIRE(wait_until([&] { return started.load(); }));
  executor->discard(nullptr, take(), 256);
  CHECK(stub.live_bytes() == 256);
  release = true;
  inbox.wait_done(1);
  CHECK(stub.live_bytes() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("the workspace grows, is shared, and goes with the last layer") {
  Stub stub;
  const auto executor = make_executor();
  void* data = nullptr;
  uint64_t held = 0;
  executor->add_layer();
  executor->add_layer();
  CHECK(executor->reserve_workspace(100, &data, &held).is_ok());
  CHECK(executor->reserve_workspace(50, &data, &held).is_ok());
  CHECK(held == 100);
  CHECK(stub.allocations() == 1);
  stub.memory_limit = 150;
  const Failure refused = executor->reserve_workspace(200, &data, &held);
  CHECK(refused.code == ErrorCode::kOutOfMemory);
  CHECK(refused.needed_bytes == 200);
  CHECK(refused.free_bytes == 150);
  CHECK(executor->workspace_bytes() == 0);
  CHECK(executor->reserve_workspace(150, &data, &held).is_ok());
  executor->remove_layer();
  CHECK(stub.live_bytes() == 150);
  executor->remove_layer();
  CHECK(stub.live_bytes() == 0);
  CHECK(executor->workspace_bytes() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("a device that is lost stays lost, with the first cause, and is asked nothing more") {
  Stub stub;
  const auto executor = make_executor();
  const auto copy = [&] {
    return executor->call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
      char byte = 0;
      return backend.copy_to_device(device, &byte, &byte, 1, status);
    });
  };
  CHECK(copy().is_ok());
  CHECK(executor->loss().is_ok());
  stub.fail(Call::kCopyToDevice, SE_DEVICE_LOST);
  const Failure first = copy();
  CHECK(first.code == ErrorCode::kDeviceLost);
  const int calls = stub.calls(Call::kCopyToDevice);
  CHECK(copy().message == first.message);
  CHECK(stub.calls(Call::kCopyToDevice) == calls);
  CHECK(executor->loss().message == first.message);
  CHECK(DeviceExecutor::loss_of(executor->device_id()).message == first.message);
  CHECK(DeviceExecutor::loss_of("another").is_ok());
}

TEST_CASE("an executor that ends runs no more tasks and gives everything back") {
  Stub stub;
  std::atomic<int> ran{0};
  Inbox inbox;
  {
    const auto executor = make_executor();
    CHECK(stub.open_devices() == 1);
    void* data = nullptr;
    uint64_t held = 0;
    CHECK(executor->reserve_workspace(100, &data, &held).is_ok());
    executor->submit(make_task(inbox, 1, [&](Task& /*task*/) { ++ran; }));
    inbox.wait_done(1);
  }
  CHECK(ran == 1);
  CHECK(stub.open_devices() == 0);
  CHECK(stub.live_bytes() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("a device that does not open leaves nothing open") {
  Stub stub;
  stub.fail(Call::kDeviceOpen, SE_DEVICE_UNAVAILABLE);
  CHECK(failure_of([] { make_executor(); }).code == ErrorCode::kDeviceUnavailable);
  stub.fail(Call::kDeviceInfo, SE_INTERNAL);
  CHECK(failure_of([] { make_executor(); }).code == ErrorCode::kInternal);
  CHECK(stub.open_devices() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("submitting, cancelling, discarding and exclusive work from many threads") {
  Stub stub;
  const auto executor = make_executor();
  Inbox inbox;
  std::atomic<int> running{0};
  std::atomic<int> overlaps{0};
  std::atomic<uint64_t> submitted{0};
  std::atomic<int> dropped{0};
  const auto work = [&](Task& /*task*/) {
    if (++running != 1) ++overlaps;
    --running;
  };
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 100; ++i) {
        const auto task = make_task(inbox, ++submitted, work);
        executor->submit(task);
        if (i % 3 == thread % 3 && executor->cancel(*task) == CancelResult::kDropped) ++dropped;
        void* data = nullptr;
        SeStatus status = {};
        Stub::table()->memory_allocate(executor->device(), 64, &data, &status);
        executor->discard(nullptr, data, 64);
        if (i % 7 == 0) {
          executor->run_exclusive([&] {
            if (++running != 1) ++overlaps;
            --running;
          });
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const size_t expected = 400 - static_cast<size_t>(dropped);
  CHECK(inbox.wait_done(expected).size() == expected);
  CHECK(overlaps == 0);
  executor->run_exclusive([] {});
  CHECK(stub.live_bytes() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_SUITE_END();
