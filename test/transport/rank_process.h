// Processes that are ranks: each is this program again, in a test case of its own, and whoever starts them
// brings their addresses from one to the other. A machine without UCX says so by the status with which
// they end.
#pragma once

#include <doctest/doctest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "endpoint.h"
#include "transport/ucx.h"

namespace transport_test {

constexpr char kRank[] = "TRANSPORT_TESTS_RANK";
constexpr char kPart[] = "TRANSPORT_TESTS_PART";
constexpr int kUnavailable = 77;
// Descriptors of a rank: what it hears, what it says. Standard output is doctest's.
constexpr int kHears = 103;
constexpr int kSays = 104;

// ---- a rank -----------------------------------------------------------------------------------------

[[noreturn]] inline void leave(int code) {
  std::fflush(nullptr);
  _exit(code);  // without handlers: UCX leaves memory behind
}

inline void expect(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "rank %s: %s\n", std::getenv(kRank), what);
  leave(1);
}

inline void say(const std::string& line) {
  const std::string text = line + "\n";
  expect(::write(kSays, text.data(), text.size()) == static_cast<ssize_t>(text.size()),
         "nobody listens");
}

inline std::string hex(const std::vector<uint8_t>& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

inline std::vector<uint8_t> hear() {
  std::array<char, 4 * SE_TRANSPORT_MAX_ADDRESS_BYTES> line = {};
  static std::FILE* const from = fdopen(kHears, "r");
  expect(from != nullptr && std::fgets(line.data(), static_cast<int>(line.size()), from) != nullptr,
         "nobody speaks");
  std::vector<uint8_t> bytes;
  unsigned byte = 0;
  for (const char* at = line.data(); std::sscanf(at, "%2x", &byte) == 1; at += 2)
    bytes.push_back(static_cast<uint8_t>(byte));
  return bytes;
}

// A rank of two, connected to its peer. Ends the process where it cannot be one.
inline std::unique_ptr<Endpoint> join_pair(int32_t rank, uint64_t max_message_bytes) {
#ifdef __SANITIZE_THREAD__
  std::fprintf(stderr, "races inside of libucp are not looked for\n");
  leave(kUnavailable);
#endif
  alarm(120);  // whoever started it may be gone
  SeTransportOptions options = {};
  options.rank = rank;
  options.size = 2;
  options.max_message_bytes = max_message_bytes;
  auto own = std::make_unique<Endpoint>(sparse_experts::transport::ucx_transport(), options);
  if (own->code == SE_TRANSPORT_UNAVAILABLE) {
    std::fprintf(stderr, "%s\n", own->status.message);
    leave(kUnavailable);
  }
  expect(own->code == SE_TRANSPORT_OK, own->status.message);
  say(hex(own->address()));
  expect(own->connect(1 - rank, hear()) == SE_TRANSPORT_OK, own->status.message);
  return own;
}

// ---- who starts them ------------------------------------------------------------------------------------

class Process {
 public:
  // `test`: the name of the test case that it runs.
  Process(const std::string& test, int rank, const std::string& part, bool has_settings = true) {
    int to[2];
    int from[2];
    REQUIRE(pipe(to) == 0);
    REQUIRE(pipe(from) == 0);
    std::vector<std::string> entries = {std::string(kRank) + "=" + std::to_string(rank),
                                        std::string(kPart) + "=" + part};
    if (has_settings) {
      entries.emplace_back("UCX_HANDLE_ERRORS=none");
      entries.emplace_back("UCX_MEM_EVENTS=n");
    }
    for (char** entry = environ; *entry != nullptr; ++entry)
      if (std::string(*entry).rfind("UCX_", 0) != 0) entries.emplace_back(*entry);
    std::vector<char*> environment;
    for (std::string& entry : entries) environment.push_back(entry.data());
    environment.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], kHears);
    posix_spawn_file_actions_adddup2(&actions, from[1], kSays);
    for (const int descriptor : {to[0], to[1], from[0], from[1]})
      posix_spawn_file_actions_addclose(&actions, descriptor);
    std::string name = "/proc/self/exe";
    std::string filter = "--dt-test-case=" + test;
    char* arguments[] = {name.data(), filter.data(), nullptr};
    REQUIRE(posix_spawn(&id_, name.c_str(), &actions, nullptr, arguments, environment.data()) == 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(to[0]);
    ::close(from[1]);
    to_ = fdopen(to[1], "w");
    from_ = fdopen(from[0], "r");
  }
  ~Process() {
    kill();
    wait();
    std::fclose(to_);
    std::fclose(from_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Empty: it has ended.
  std::string line() {
    std::array<char, 4 * SE_TRANSPORT_MAX_ADDRESS_BYTES> text = {};
    return std::fgets(text.data(), static_cast<int>(text.size()), from_) == nullptr ? ""
                                                                                    : text.data();
  }
  void write(const std::string& text) {
    std::fputs(text.c_str(), to_);
    std::fflush(to_);
  }
  void kill() const {
    if (id_ > 0) ::kill(id_, SIGKILL);
  }
  // The exit code; -1 where it was killed.
  int wait() {
    int status = 0;
    if (id_ <= 0) return code_;
    REQUIRE(waitpid(id_, &status, 0) == id_);
    id_ = 0;
    return code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t id_ = 0;
  int code_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

// False, with the reason printed, where this machine has no UCX.
inline bool introduce(Process& first, Process& second) {
  const std::string addresses[] = {first.line(), second.line()};
  if (addresses[0].empty() && first.wait() == kUnavailable) {
    MESSAGE("skipped: no UCX on this machine");
    return false;
  }
  REQUIRE(!addresses[0].empty());
  REQUIRE(!addresses[1].empty());
  first.write(addresses[1]);
  second.write(addresses[0]);
  return true;
}

}  // namespace transport_test
