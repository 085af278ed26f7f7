// What goes wrong outside of the arguments: memory that runs out, copies and launches that fail, a
// device that is lost; and what must not happen: allocations in steady state, calls from several
// threads that disturb each other.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "cpp/check.h"
#include "cuda/device_layer.h"
#include "oracle/fixture.h"

#if defined(SIMT_EMULATOR)
#include <simt/faults.h>
#endif

namespace native_test {
namespace {

TEST_SUITE_BEGIN("abi");

const SeBackend& backend() { return *se_backend_entry(); }

std::vector<char> random_hidden(LayerFixture* fixture, int64_t num_tokens) {
  return random_bytes(&fixture->random, num_tokens * fixture->layer.hidden_size, SE_F32, 1);
}

TEST_CASE("device") {
  SeStatus status{};
  SeDeviceInfo info{};
  const SeBackend& table = backend();
  CHECK_MESSAGE(table.abi_version == SE_BACKEND_ABI_VERSION, "table header");
  CHECK_MESSAGE(table.table_bytes == sizeof(SeBackend), "table header");
  CHECK_MESSAGE(std::string(table.name) == "cuda",
                "what is compiled in: ", std::string(table.architectures));
  CHECK_MESSAGE(table.build[0] != '\0', "what is compiled in: ", std::string(table.architectures));
  CHECK_MESSAGE(std::strstr(table.architectures, "sm_") != nullptr,
                "what is compiled in: ", std::string(table.architectures));
  const int32_t count = table.device_count(&status);
  CHECK_MESSAGE(count >= 1, "a device");
  CHECK_MESSAGE(status.code == SE_OK, "a device");
  CHECK_MESSAGE((table.device_info(0, &info, &status) == SE_OK && info.unavailable[0] == '\0' &&
                 std::strncmp(info.architecture, "sm_", 3) == 0 && info.compute_units >= 1 &&
                 info.total_bytes > 0),
                "device info: ", std::string(info.name), " ", std::string(info.architecture), " ",
                std::string(info.unavailable));
  for (const int32_t index : {-1, count, 1000})
    CHECK_MESSAGE(table.device_info(index, &info, &status) == SE_INVALID_ARGUMENT,
                  "no such device");
  SeDevice* device = nullptr;
  CHECK_MESSAGE(table.device_open(count, &device, &status) == SE_INVALID_ARGUMENT,
                "a device that is not there does not open");
  CHECK_MESSAGE(device == nullptr, "a device that is not there does not open");
  for (const char* text : {"0", "-5", "many", "9x"}) {
    setenv("SPARSE_EXPERTS_CUDA_WAVE_BYTES", text, 1);
    CHECK_MESSAGE(table.device_open(0, &device, &status) == SE_DEVICE_UNAVAILABLE,
                  "SPARSE_EXPERTS_CUDA_WAVE_BYTES=", std::string(text), " is refused");
    CHECK_MESSAGE(device == nullptr, "SPARSE_EXPERTS_CUDA_WAVE_BYTES=", std::string(text),
                  " is refused");
    CHECK_MESSAGE(std::strstr(status.message, text) != nullptr,
                  "SPARSE_EXPERTS_CUDA_WAVE_BYTES=", std::string(text), " is refused");
    CHECK_MESSAGE(table.device_info(0, &info, &status) == SE_OK, "device info says why");
    CHECK_MESSAGE(std::strstr(info.unavailable, "WAVE_BYTES") != nullptr, "device info says why");
  }
  unsetenv("SPARSE_EXPERTS_CUDA_WAVE_BYTES");
  table.device_close(nullptr);
  table.layer_close(nullptr);
}

// After the first calls nothing is allocated any more, with and without graphs.
TEST_CASE("steady state") {
  LayerOptions options;
  options.shared = 40, options.shared_mode = SE_SHARED_SIGMOID, options.dtype = SE_BF16;
  LayerFixture fixture(options);
  for (const char* graphs : {"1", "0"}) {
    const OpenDevice device("SPARSE_EXPERTS_CUDA_GRAPHS", graphs);
    const DeviceLayer layer(device.get(), fixture.layer);
    const uint64_t bytes = workspace_bytes_of(layer, 40);
    const DeviceMemory workspace(device.get(), bytes);
    const std::vector<char> hidden = random_hidden(&fixture, 40);
    const ForwardCall large(fixture, hidden, SE_F32);
    const std::vector<char> first(hidden.begin(), hidden.begin() + 3 * options.hidden_size * 4);
    const ForwardCall small(fixture, first, SE_F32);
    CHECK_MESSAGE(run_on_device(layer, large, &workspace, bytes).code == SE_OK, "a first call");
    const SeDeviceCounters before = device.counters();
#if defined(SIMT_EMULATOR)
    const simt::RuntimeCounters runtime_before = simt::runtime_counters();
#endif
    for (int run = 0; run < 10; ++run) {
      CHECK_MESSAGE(
          run_on_device(layer, run % 2 == 0 ? small : large, &workspace, bytes).code == SE_OK,
          "a later call");
    }
    const SeDeviceCounters after = device.counters();
    CHECK_MESSAGE(after.device_allocations == before.device_allocations,
                  "no allocation in steady state");
    CHECK_MESSAGE(after.device_bytes == before.device_bytes, "no allocation in steady state");
    CHECK_MESSAGE(after.pinned_bytes == before.pinned_bytes, "no allocation in steady state");
    CHECK_MESSAGE(after.copied_to_device_bytes > before.copied_to_device_bytes,
                  "copies are counted");
    CHECK_MESSAGE(after.copied_to_host_bytes > before.copied_to_host_bytes, "copies are counted");
#if defined(SIMT_EMULATOR)
    const simt::RuntimeCounters runtime_after = simt::runtime_counters();
    CHECK_MESSAGE(runtime_after.allocations == runtime_before.allocations,
                  "the runtime saw no allocation either");
    CHECK_MESSAGE(runtime_after.host_allocations == runtime_before.host_allocations,
                  "the runtime saw no allocation either");
    CHECK_MESSAGE(
        runtime_after.synchronisations - runtime_before.synchronisations == 10,
        "a forward waits once: ", runtime_after.synchronisations - runtime_before.synchronisations);
#endif
  }
}

// Layers on one device from several threads, and a device of one's own for each thread.
TEST_CASE("threads") {
  LayerFixture fixture{LayerOptions()};
  const OpenDevice shared_device;
  const std::vector<char> hidden = random_hidden(&fixture, 17);
  const ForwardCall call(fixture, hidden, SE_F32);
  const DeviceLayer shared_layer(shared_device.get(), fixture.layer);
  const ForwardResult expected = run_on_device(shared_layer, call);
  std::atomic<int> wrong{0};
  const auto run = [&](const DeviceLayer& layer) {
    const uint64_t bytes = workspace_bytes_of(layer, 17);
    const DeviceMemory workspace(layer.device(), bytes);
    for (int i = 0; i < 6; ++i)
      if (!same_bits(run_on_device(layer, call, &workspace, bytes).output, expected.output))
        ++wrong;
  };
  std::vector<std::thread> threads;
  threads.emplace_back([&] { run(shared_layer); });
  threads.emplace_back([&] { run(shared_layer); });
  threads.emplace_back([&] { run(DeviceLayer(shared_device.get(), fixture.layer)); });
  threads.emplace_back([&] {
    const OpenDevice own;
    run(DeviceLayer(own.get(), fixture.layer));
  });
  for (std::thread& thread : threads) thread.join();
  CHECK_MESSAGE(wrong == 0, "calls from several threads");
}

// Memory that runs out is typed, and the device works on.
TEST_CASE("out of memory") {
  const OpenDevice device;
  SeDeviceInfo info{};
  SeStatus status{};
  CHECK_MESSAGE(backend().device_info(0, &info, &status) == SE_OK, "free bytes of an open device");
  CHECK_MESSAGE(info.free_bytes > 0, "free bytes of an open device");
  LayerFixture fixture{LayerOptions()};
  const DeviceLayer layer(device.get(), fixture.layer);
  const std::vector<char> hidden = random_hidden(&fixture, 3);
  const ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult expected = run_on_device(layer, call);
  void* data = nullptr;
  const uint64_t too_much = info.free_bytes / 8 * 7;
  void* ballast = nullptr;
  if (!CHECK_MESSAGE(
          backend().memory_allocate(device.get(), info.free_bytes / 2, &ballast, &status) == SE_OK,
          "a ballast"))
    return;
  CHECK_MESSAGE(
      backend().memory_allocate(device.get(), too_much, &data, &status) == SE_OUT_OF_MEMORY,
      "out of memory, with figures");
  CHECK_MESSAGE(data == nullptr, "out of memory, with figures");
  CHECK_MESSAGE(status.needed_bytes == too_much, "out of memory, with figures");
  CHECK_MESSAGE(status.free_bytes < too_much, "out of memory, with figures");
  check_same_bits(run_on_device(layer, call).output, expected.output, "the device works on");
  backend().memory_free(device.get(), ballast, info.free_bytes / 2);
}

#if defined(SIMT_EMULATOR)
// Every allocation, copy, launch, stream and event of a first call fails once: the call says so or
// does without, and the same call then succeeds with the right bits.
TEST_CASE("planned faults") {
  LayerOptions options;
  options.shared = 24;
  LayerFixture fixture(options);
  const std::vector<char> hidden = random_hidden(&fixture, 5);
  const ForwardCall call(fixture, hidden, SE_F32);
  ForwardResult expected;
  {
    const OpenDevice device;
    expected = run_on_device(DeviceLayer(device.get(), fixture.layer), call);
  }
  for (const char* kind : {"malloc", "host", "copy", "launch", "graph", "stream", "event"}) {
    int num_failed = 0;
    for (int n = 1; n < 40; ++n) {
      // What a device keeps for all of its layers comes with the first call.
      const OpenDevice device;
      const DeviceLayer layer(device.get(), fixture.layer);
      const uint64_t bytes = workspace_bytes_of(layer, 5);
      const DeviceMemory workspace(device.get(), bytes);
      simt::set_faults(std::string(kind) + ":" + std::to_string(n));
      Every right;
      for (int run = 0; run < 3; ++run) {
        const ForwardResult result = run_on_device(layer, call, &workspace, bytes);
        if (result.code == SE_OK) {
          right.that(same_bits(result.output, expected.output));
        } else {
          ++num_failed;
          const bool memory = std::string(kind) == "malloc" || std::string(kind) == "host";
          right.equal(result.code, (memory ? SE_OUT_OF_MEMORY : SE_INTERNAL));
        }
      }
      const bool reached = simt::pending_faults() == 0;
      simt::clear_faults();
      right.that(same_bits(run_on_device(layer, call, &workspace, bytes).output, expected.output));
      right.check(std::string("fault ") + kind + ":" + std::to_string(n));
      if (!reached) break;
    }
    const std::string name = kind;
    if (name == "copy" || name == "launch" || name == "malloc" || name == "host")
      CHECK_MESSAGE(num_failed > 0, "faults are met: ", std::string(name));
    if (name == "graph")
      CHECK_MESSAGE(num_failed == 0, "a graph that cannot be made is done without");
  }
  // Layers and devices that cannot be opened leave nothing behind.
  for (const char* fault : {"stream:1", "event:1", "copy:1", "malloc:1"}) {
    const simt::RuntimeCounters before = simt::runtime_counters();
    SeDevice* opened = nullptr;
    SeStatus status{};
    simt::set_faults(fault);
    const int32_t code = backend().device_open(0, &opened, &status);
    if (code == SE_OK) backend().device_close(opened);
    simt::clear_faults();
    const simt::RuntimeCounters after = simt::runtime_counters();
    CHECK_MESSAGE(after.live_streams == before.live_streams, "nothing is left after ",
                  std::string(fault));
    CHECK_MESSAGE(after.live_events == before.live_events, "nothing is left after ",
                  std::string(fault));
    CHECK_MESSAGE(after.live_allocations == before.live_allocations, "nothing is left after ",
                  std::string(fault));
  }
}

// A device that is lost while a graph replays.
TEST_CASE("sticky graph") {
  LayerFixture fixture{LayerOptions()};
  const std::vector<char> hidden = random_hidden(&fixture, 5);
  const ForwardCall call(fixture, hidden, SE_F32);
  for (const int warm : {1, 2, 3}) {  // before, at and after the capture
    simt::revive_devices();
    const OpenDevice device;
    const DeviceLayer layer(device.get(), fixture.layer);
    const uint64_t bytes = workspace_bytes_of(layer, 5);
    const DeviceMemory workspace(device.get(), bytes);
    for (int run = 0; run < warm; ++run)
      CHECK_MESSAGE(run_on_device(layer, call, &workspace, bytes).code == SE_OK,
                    "before the failure");
    simt::set_faults("sticky:3");
    for (int run = 0; run < 2; ++run)
      CHECK_MESSAGE(run_on_device(layer, call, &workspace, bytes).code == SE_DEVICE_LOST,
                    "lost in a graph, warm ", warm);
  }
  simt::revive_devices();
}

// A device and its layers give back all that they took.
TEST_CASE("nothing left") {
  LayerOptions options;
  options.shared = 24;
  LayerFixture fixture(options);
  const std::vector<char> hidden = random_hidden(&fixture, 300);
  const simt::RuntimeCounters before = simt::runtime_counters();
  for (int round = 0; round < 2; ++round) {
    const OpenDevice device;
    const DeviceLayer first(device.get(), fixture.layer);
    const DeviceLayer second(device.get(), fixture.layer);
    const ForwardCall call(fixture, hidden, SE_F32);
    const uint64_t bytes = workspace_bytes_of(first, 300);
    const DeviceMemory workspace(device.get(), bytes);
    for (int64_t num_tokens = 1; num_tokens <= 12; ++num_tokens) {  // more keys than a cache holds
      const std::vector<char> rows(hidden.begin(), hidden.begin() + num_tokens * 64 * 4);
      const ForwardCall few(fixture, rows, SE_F32);
      for (int run = 0; run < 2; ++run) run_on_device(first, few, &workspace, bytes);
    }
    CHECK_MESSAGE(run_on_device(second, call, &workspace, bytes).code == SE_OK, "a larger call");
    CHECK_MESSAGE(device.counters().graph_captures == 12, "a graph for each number of tokens");
    CHECK_MESSAGE(simt::runtime_counters().live_graphs - before.live_graphs <= 8,
                  "a cache of 8 graphs");
  }
  const simt::RuntimeCounters after = simt::runtime_counters();
  CHECK_MESSAGE(after.live_allocations == before.live_allocations,
                "nothing is left of a closed device");
  CHECK_MESSAGE(after.live_streams == before.live_streams, "nothing is left of a closed device");
  CHECK_MESSAGE(after.live_events == before.live_events, "nothing is left of a closed device");
  CHECK_MESSAGE(after.live_graphs == before.live_graphs, "nothing is left of a closed device");
}

// From the first sticky error on every function says the same, and nothing hangs.
TEST_CASE("sticky") {
  LayerFixture fixture{LayerOptions()};
  auto* device = new OpenDevice();
  auto* layer = new DeviceLayer(device->get(), fixture.layer);
  const std::vector<char> hidden = random_hidden(&fixture, 5);
  const ForwardCall call(fixture, hidden, SE_F32);
  const uint64_t bytes = workspace_bytes_of(*layer, 5);
  auto* workspace = new DeviceMemory(device->get(), bytes);
  CHECK_MESSAGE(run_on_device(*layer, call, workspace, bytes).code == SE_OK, "before the failure");
  simt::set_faults("sticky:2");
  const ForwardResult lost = run_on_device(*layer, call, workspace, bytes);
  CHECK_MESSAGE(lost.code == SE_DEVICE_LOST,
                "the device is lost: ", std::string(lost.status.message));
  CHECK_MESSAGE(std::strstr(lost.status.message, "cudaError") != nullptr,
                "the device is lost: ", std::string(lost.status.message));
  const std::string cause = lost.status.message;
  const simt::RuntimeCounters before = simt::runtime_counters();
  SeDevice* const handle = device->get();
  SeStatus status{};
  const auto is_lost = [&](int32_t code, const char* what) {
    CHECK_MESSAGE(code == SE_DEVICE_LOST, what, " says so too: ", std::string(status.message));
    CHECK_MESSAGE(cause == status.message, what, " says so too: ", std::string(status.message));
    status = SeStatus{};
  };
  const ForwardResult again = run_on_device(*layer, call, workspace, bytes);
  CHECK_MESSAGE(again.code == SE_DEVICE_LOST, "forward says so again");
  CHECK_MESSAGE(cause == again.status.message, "forward says so again");
  void* data = nullptr;
  char byte = 0;
  is_lost(backend().memory_allocate(handle, 100, &data, &status), "memory_allocate");
  is_lost(backend().copy_to_device(handle, workspace->as<>(), &byte, 1, &status), "copy_to_device");
  is_lost(backend().copy_to_host(handle, &byte, workspace->as<>(), 1, &status), "copy_to_host");
  SeGateArgs gate{};
  is_lost(backend().gate(handle, &gate, &status), "gate");
  SeSelectArgs select{};
  is_lost(backend().select_experts(handle, &fixture.layer.routing, &select, &status),
          "select_experts");
  SeDispatchArgs dispatch{};
  is_lost(backend().dispatch(handle, &dispatch, &status), "dispatch");
  SeExpertMatmulArgs matmul{};
  is_lost(backend().expert_matmul(handle, &matmul, &status), "expert_matmul");
  SeCombineArgs combine{};
  is_lost(backend().combine(handle, &combine, &status), "combine");
  SeLayer* opened = nullptr;
  is_lost(backend().layer_open(handle, &layer->description(), nullptr, &opened, &status),
          "layer_open");
  SeDeviceInfo info{};
  CHECK_MESSAGE(backend().device_info(0, &info, &status) == SE_OK, "device_info says so");
  CHECK_MESSAGE(cause.compare(0, sizeof info.unavailable - 1, info.unavailable) == 0,
                "device_info says so");
  CHECK_MESSAGE(info.name[0] != '\0', "device_info says so");
  CHECK_MESSAGE(workspace_bytes_of(*layer, 5) == bytes, "plans are still made");
  delete layer;
  delete workspace;
  delete device;
  const simt::RuntimeCounters after = simt::runtime_counters();
  CHECK_MESSAGE(after.launches == before.launches, "nothing was asked of the device after that");
  CHECK_MESSAGE(after.copies == before.copies, "nothing was asked of the device after that");
  CHECK_MESSAGE(after.synchronisations == before.synchronisations,
                "nothing was asked of the device after that");
  CHECK_MESSAGE(after.live_allocations == before.live_allocations,
                "nothing was asked of the device after that");
  simt::revive_devices();
  const OpenDevice fresh;
  CHECK_MESSAGE(run_on_device(DeviceLayer(fresh.get(), fixture.layer), call).code == SE_OK,
                "a fresh device works");
}

TEST_CASE("no device") {
  SeStatus status{};
  SeDeviceInfo info{};
  SeDevice* device = nullptr;
  const auto with = [&](const char* variable, const char* value, const char* expected,
                        int32_t num_devices) {
    setenv(variable, value, 1);
    simt::reset_runtime();
    const std::string what = std::string(variable) + "=" + value;
    CHECK_MESSAGE(backend().device_count(&status) == num_devices, what, ": number of devices");
    if (num_devices == 0)
      CHECK_MESSAGE((status.code == SE_DEVICE_UNAVAILABLE &&
                     std::strstr(status.message, expected) != nullptr),
                    what, ": ", std::string(status.message));
    CHECK_MESSAGE(backend().device_info(0, &info, &status) == SE_OK, what, ": ",
                  std::string(info.unavailable));
    CHECK_MESSAGE(std::strstr(info.unavailable, expected) != nullptr, what, ": ",
                  std::string(info.unavailable));
    CHECK_MESSAGE(backend().device_open(0, &device, &status) == SE_DEVICE_UNAVAILABLE, what,
                  ": does not open");
    CHECK_MESSAGE(device == nullptr, what, ": does not open");
    CHECK_MESSAGE(std::strstr(status.message, expected) != nullptr, what, ": does not open");
    unsetenv(variable);
    simt::reset_runtime();
  };
  with("SIMT_DRIVER", "none", "no NVIDIA driver", 0);
  with("SIMT_DRIVER", "11080", "update the driver", 0);
  with("SIMT_DEVICES", "0", "no NVIDIA GPU", 0);
  with("SIMT_COMPUTE_CAPABILITY", "75", "no code for sm_75", 1);
  CHECK_MESSAGE(backend().device_count(&status) == 1, "and the device is back");
}
#endif

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
