// What an exception becomes on its way out of the engine.
#include "engine/failure.h"

#include <doctest/doctest.h>

#include <new>
#include <stdexcept>
#include <system_error>

#include "fixture.h"

using namespace engine_test;

namespace {

template <typename Exception>
Failure failure_of(const Exception& exception) {
  try {
    throw exception;
  } catch (...) {
    return current_failure();
  }
}

std::system_error refused(std::errc code) { return std::system_error(std::make_error_code(code)); }

}  // namespace

TEST_SUITE_BEGIN("failure");

TEST_CASE("memory, and threads that the system refuses, are a lack of memory") {
  CHECK(failure_of(std::bad_alloc()).code == ErrorCode::kOutOfMemory);
  const Failure thread = failure_of(refused(std::errc::resource_unavailable_try_again));
  CHECK(thread.code == ErrorCode::kOutOfMemory);
  CHECK(thread.message.find("thread") != std::string::npos);
  CHECK(thread.free_bytes > 0);
}

TEST_CASE("what nobody thought of is internal, with its message") {
  CHECK(failure_of(refused(std::errc::bad_file_descriptor)).code == ErrorCode::kInternal);
  CHECK(failure_of(std::logic_error("odd")).message == "odd");
  CHECK(failure_of(7).code == ErrorCode::kInternal);
}

TEST_SUITE_END();
