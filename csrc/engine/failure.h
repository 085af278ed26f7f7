// Errors of the engine as values and as exceptions: a code, a message, and byte figures when memory
// ran out.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include "core/status.h"

namespace sparse_experts::engine {

enum class ErrorCode {
  kNone,
  kInvalidArgument,
  kOutOfMemory,
  kCancelled,
  kDeviceUnavailable,
  kDeviceLost,
  kInternal,
  kIo,
  kDisposed,
  kDetached,
  kCacheTooSmall,  // needed_bytes says how much it takes
  kPeerLost,       // rank says which
  kPeerTimeout,    // the same
};

// An error as a value: it may cross threads.
struct Failure {
  ErrorCode code = ErrorCode::kNone;
  std::string message;
  uint64_t needed_bytes = 0;
  uint64_t free_bytes = 0;
  int32_t rank = -1;  // of a peer, where one is the reason

  Failure() = default;
  Failure(ErrorCode error_code, std::string text) : code(error_code), message(std::move(text)) {}

  bool is_ok() const { return code == ErrorCode::kNone; }

  static Failure from(const Status& status);
  static Failure from(const SeStatus& status, int32_t code);
  static Failure out_of_memory(uint64_t needed_bytes, uint64_t free_bytes);
  static Failure of_peer(ErrorCode code, int32_t rank, std::string message);
};

class FailureException : public std::exception {
 public:
  explicit FailureException(Failure failure) : failure_(std::move(failure)) {}
  const char* what() const noexcept override { return failure_.message.c_str(); }
  const Failure& failure() const { return failure_; }

 private:
  Failure failure_;
};

[[noreturn]] void fail(ErrorCode code, std::string message);
[[noreturn]] void fail_argument(std::string message);
[[noreturn]] void fail_io(const std::string& path, const std::string& what);
void throw_if_failed(const Failure& failure);

// The failure that the exception in flight stands for. Call it inside of a catch block only.
Failure current_failure() noexcept;

}  // namespace sparse_experts::engine
