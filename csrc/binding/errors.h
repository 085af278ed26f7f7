// Errors of the binding: a code that JavaScript sees as `moeCode`, a message, and byte figures when
// memory ran out.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "binding/napi_setup.h"
#include "core/status.h"

namespace sparse_experts::binding {

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
};

// An error as a value: it crosses threads, so it holds nothing of JavaScript.
struct Failure {
  ErrorCode code = ErrorCode::kNone;
  std::string message;
  uint64_t needed_bytes = 0;
  uint64_t free_bytes = 0;

  Failure() = default;
  Failure(ErrorCode error_code, std::string text) : code(error_code), message(std::move(text)) {}

  bool is_ok() const { return code == ErrorCode::kNone; }

  static Failure from(const Status& status);
  static Failure from(const SeStatus& status, int32_t code);
  static Failure out_of_memory(uint64_t needed_bytes, uint64_t free_bytes);
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
void throw_if_failed(const Failure& failure);

// The failure that the exception in flight stands for. Call it inside of a catch block only.
Failure current_failure() noexcept;

// A plain Error with `moeCode`, and `neededBytes` and `freeBytes` when memory ran out. JS thread
// only.
Napi::Error make_error(Napi::Env env, const Failure& failure);

// Runs a callback's body; whatever it throws arrives in JavaScript as one of the errors above.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw make_error(env, current_failure());
  }
}

}  // namespace sparse_experts::binding
