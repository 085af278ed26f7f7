// Blocks of device memory and copies.
#include "engine/device_memory.h"

#include <doctest/doctest.h>

#include <numeric>

#include "fixture.h"

using namespace engine_test;

TEST_SUITE_BEGIN("device memory");

TEST_CASE("a block is the device's until its last owner goes") {
  Stub stub;
  const auto executor = make_executor();
  {
    const auto block = DeviceMemory::allocate(executor, 100);
    CHECK(block->bytes() == 100);
    CHECK(stub.live_bytes() == 100);
    const auto second = block;
    CHECK(second->data() == block->data());
  }
  CHECK(stub.live_bytes() == 0);
  const auto empty = DeviceMemory::allocate(executor, 0);
  CHECK(empty->data() == nullptr);
  CHECK(stub.allocations() == 1);
  CHECK(stub.breaches() == 0);
}

TEST_CASE("copies go there and back; what fails is told and holds nothing") {
  Stub stub;
  const auto executor = make_executor();
  const auto block = DeviceMemory::allocate(executor, 64);
  std::vector<uint8_t> there(64);
  std::iota(there.begin(), there.end(), uint8_t{0});
  std::vector<uint8_t> back(64);
  copy_to_device(*executor, block->data(), there.data(), 64);
  copy_to_host(*executor, back.data(), block->data(), 64);
  CHECK(back == there);

  stub.fail(Call::kCopyToDevice, SE_INTERNAL);
  const auto to_device = [&] { copy_to_device(*executor, block->data(), there.data(), 64); };
  CHECK(failure_of(to_device).code == ErrorCode::kInternal);
  stub.fail(Call::kCopyToHost, SE_INTERNAL);
  const auto to_host = [&] { copy_to_host(*executor, back.data(), block->data(), 64); };
  CHECK(failure_of(to_host).code == ErrorCode::kInternal);

  stub.memory_limit = 100;
  const Failure refused = failure_of([&] { DeviceMemory::allocate(executor, 64); });
  CHECK(refused.code == ErrorCode::kOutOfMemory);
  CHECK(refused.needed_bytes == 64);
  CHECK(refused.free_bytes == 36);
  CHECK(stub.live_bytes() == 64);

  stub.is_lost = true;
  CHECK(failure_of(to_device).code == ErrorCode::kDeviceLost);
  CHECK(failure_of([&] { DeviceMemory::allocate(executor, 1); }).code == ErrorCode::kDeviceLost);
}

TEST_SUITE_END();
