// Backends as rows, device ids, and one executor per device and process.
#include "engine/backend_registry.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <thread>

#include "fixture.h"

using namespace engine_test;

namespace {

// A third backend is a row.
void add_stub_backend() {
  static const BackendRow row = {"stub", "Stub", true, 50, Stub::table, nullptr, nullptr};
  static const bool once = [] {
    add_backend(&row);
    return true;
  }();
  static_cast<void>(once);
}

ErrorCode code_of(const char* id) {
  return failure_of([&] { DeviceExecutor::acquire(id); }).code;
}

}  // namespace

TEST_SUITE_BEGIN("backend registry");

TEST_CASE("backends stand in the order of their priority, there or not") {
  unsetenv("SPARSE_EXPERTS_CUDA_LIBRARY");
  add_stub_backend();
  std::vector<std::string> names;
  for (const Backend& backend : backends()) names.emplace_back(backend.row->name);
  CHECK(names == std::vector<std::string>{"cuda", "stub", "cpu"});
  const Backend cuda = find_backend("cuda");
  CHECK(cuda.table == nullptr);
  CHECK(cuda.reason.find("this build has no CUDA backend") == 0);
  REQUIRE(find_backend("cpu").table != nullptr);
  CHECK(find_backend("cpu").reason.empty());
  CHECK(find_backend("tpu").row == nullptr);
  CHECK(find_backend("tpu").reason == "no backend is named tpu");
}

TEST_CASE("device ids name a backend and a number where it has several") {
  add_stub_backend();
  CHECK(parse_device_id("stub").second == 0);
  CHECK(parse_device_id("stub:1").second == 1);
  CHECK(device_id(*find_backend("stub").row, 1) == "stub:1");
  CHECK(device_id(*find_backend("cpu").row, 0) == "cpu");
  for (const char* wrong : {"stub:", "stub:x", "stub:-1", "stub:12345", "stub:1:2", "cpu:0"}) {
    CAPTURE(wrong);
    CHECK(code_of(wrong) == ErrorCode::kInvalidArgument);
  }
  CHECK(failure_of([] { parse_device_id("cpu:0"); }).message ==
        "Expected one of 'cuda', 'cuda:N', 'stub', 'stub:N', 'cpu' for device, received 'cpu:0'");
  for (const char* absent : {"tpu", "", ":", "cuda", "cuda:0"}) {
    CAPTURE(absent);
    CHECK(code_of(absent) == ErrorCode::kDeviceUnavailable);
  }
}

TEST_CASE("everyone in the process shares a device's executor, and the last one closes it") {
  add_stub_backend();
  Stub stub;
  {
    const auto first = DeviceExecutor::acquire("stub");
    CHECK(first->device_id() == "stub:0");
    CHECK(DeviceExecutor::acquire("stub:0").get() == first.get());
    CHECK(DeviceExecutor::acquire("stub:1").get() != first.get());
    CHECK(stub.open_devices() == 1);
    std::vector<std::shared_ptr<DeviceExecutor>> found(8);
    std::vector<std::thread> threads;
    threads.reserve(found.size());
    for (auto& executor : found)
      threads.emplace_back([&executor] { executor = DeviceExecutor::acquire("stub:0"); });
    for (std::thread& thread : threads) thread.join();
    for (const auto& executor : found) CHECK(executor.get() == first.get());
  }
  CHECK(stub.open_devices() == 0);
  CHECK(DeviceExecutor::acquire("stub:0")->has_host_memory());
  CHECK(stub.open_devices() == 0);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("a lost device is not opened again") {
  add_stub_backend();
  Stub stub;
  stub.fail(Call::kAllocate, SE_DEVICE_LOST);
  {
    const auto executor = DeviceExecutor::acquire("stub:1");
    void* data = nullptr;
    uint64_t held = 0;
    CHECK(executor->reserve_workspace(64, &data, &held).code == ErrorCode::kDeviceLost);
  }
  const int opens = stub.calls(Call::kDeviceOpen);
  CHECK(code_of("stub:1") == ErrorCode::kDeviceLost);
  CHECK(stub.calls(Call::kDeviceOpen) == opens);
  CHECK(code_of("stub:0") == ErrorCode::kNone);
}

TEST_SUITE_END();
