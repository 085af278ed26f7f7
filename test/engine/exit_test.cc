// exit(3) in the middle: a program of its own, this one again, leaves with a task running, waiting or
// none.
#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "engine/backend_registry.h"
#include "fixture.h"

using namespace engine_test;

namespace {

constexpr char kMode[] = "ENGINE_TESTS_EXIT";
std::atomic<bool> is_running{false};
std::atomic<bool> second_ran{false};
// What exit finds still in use stays reachable, or LeakSanitizer would call it lost.
std::atomic<Stub*> stub{nullptr};
std::atomic<Inbox*> inbox{nullptr};
std::atomic<std::shared_ptr<DeviceExecutor>*> executor{nullptr};

// Runs after DeviceExecutor's own handler, which is registered later.
void report_at_exit() {
  if (is_running) _exit(3);
  if (second_ran) _exit(4);
}

[[noreturn]] void leave(const std::string& mode) {
  static const BackendRow row = {"stub", "Stub", true, 50, Stub::table, nullptr, nullptr};
  add_backend(&row);
  std::atexit(report_at_exit);
  stub = new Stub;
  inbox = new Inbox;
  executor = new std::shared_ptr<DeviceExecutor>(DeviceExecutor::acquire("stub"));
  if (mode == "running") {
    (*executor.load())->submit(make_task(*inbox.load(), 1, [](Task& task) {
      is_running = true;
      wait_until([&] { return task.is_cancelled(); });
      is_running = false;
    }));
    (*executor.load())->submit(make_task(*inbox.load(), 2, [](Task& /*task*/) {
      second_ran = true;
    }));
    wait_until([] { return is_running.load(); });
  }
  if (mode == "released") {
    (*executor.load())->submit(make_task(*inbox.load(), 1, [](Task& /*task*/) {}));
    inbox.load()->wait_done(1);
    executor.load()->reset();
  }
  std::exit(0);
}

// The exit status of this program in a mode; -1 where it crashed.
int status_of(const char* mode) {
  setenv(kMode, mode, 1);
  char self[] = "/proc/self/exe";
  char filter[] = "--dt-test-case=leaves";
  char* arguments[] = {self, filter, nullptr};
  pid_t child = 0;
  const int spawned = posix_spawn(&child, self, nullptr, nullptr, arguments, environ);
  unsetenv(kMode);
  if (spawned != 0) return -2;
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_SUITE_BEGIN("exit");

TEST_CASE("leaves" * doctest::skip(std::getenv(kMode) == nullptr)) {
  if (const char* mode = std::getenv(kMode)) leave(mode);
}

TEST_CASE("exit stops the running task, starts no other, and ends well") {
  for (const char* mode : {"idle", "running", "released"}) {
    CAPTURE(mode);
    CHECK(status_of(mode) == 0);
  }
}

TEST_SUITE_END();
