#include "engine/failure.h"

#include <new>
#include <system_error>

#include "core/host_memory.h"

namespace sparse_experts::engine {
namespace {

ErrorCode error_code(int32_t code) {
  switch (code) {
    case SE_OK:
      return ErrorCode::kNone;
    case SE_INVALID_ARGUMENT:
      return ErrorCode::kInvalidArgument;
    case SE_OUT_OF_MEMORY:
      return ErrorCode::kOutOfMemory;
    case SE_CANCELLED:
      return ErrorCode::kCancelled;
    case SE_DEVICE_UNAVAILABLE:
      return ErrorCode::kDeviceUnavailable;
    case SE_DEVICE_LOST:
      return ErrorCode::kDeviceLost;
    case SE_IO:
      return ErrorCode::kIo;
    default:
      return ErrorCode::kInternal;
  }
}

}  // namespace

Failure Failure::from(const Status& status) {
  Failure failure(error_code(status.code()), status.message());
  failure.needed_bytes = status.needed_bytes();
  failure.free_bytes = status.free_bytes();
  return failure;
}

Failure Failure::from(const SeStatus& status, int32_t code) {
  if (code == SE_OK) return {};
  Failure failure(error_code(code), std::string(status.message));
  if (failure.message.empty()) failure.message = "the backend failed without a message";
  failure.needed_bytes = status.needed_bytes;
  failure.free_bytes = status.free_bytes;
  return failure;
}

Failure Failure::out_of_memory(uint64_t needed_bytes, uint64_t free_bytes) {
  return from(Status::out_of_memory(needed_bytes, free_bytes));
}

Failure Failure::of_peer(ErrorCode code, int32_t rank, std::string message) {
  Failure failure(code, std::move(message));
  failure.rank = rank;
  return failure;
}

void fail(ErrorCode code, std::string message) {
  throw FailureException(Failure(code, std::move(message)));
}

void fail_argument(std::string message) { fail(ErrorCode::kInvalidArgument, std::move(message)); }

void fail_io(const std::string& path, const std::string& what) {
  fail(ErrorCode::kIo, "cannot read " + path + ": " + what);
}

void throw_if_failed(const Failure& failure) {
  if (!failure.is_ok()) throw FailureException(failure);
}

Failure current_failure() noexcept {
  try {
    throw;
  } catch (const FailureException& exception) {
    return exception.failure();
  } catch (const std::bad_alloc&) {
    Failure failure(ErrorCode::kOutOfMemory, "out of memory");
    failure.free_bytes = host_memory_info().free_bytes;
    return failure;
  } catch (const std::system_error& exception) {
    // What std::thread throws where the machine or a limit on the process allows no more threads.
    if (exception.code() == std::errc::resource_unavailable_try_again) {
      Failure failure(ErrorCode::kOutOfMemory,
                      "the system refused a thread: no memory for its stack, or a limit on the "
                      "number of threads");
      failure.free_bytes = host_memory_info().free_bytes;
      return failure;
    }
    return {ErrorCode::kInternal, std::string("the system refused: ") + exception.what()};
  } catch (const std::exception& exception) {
    return {ErrorCode::kInternal, exception.what()};
  } catch (...) {
    return {ErrorCode::kInternal, "unknown exception"};
  }
}

}  // namespace sparse_experts::engine
