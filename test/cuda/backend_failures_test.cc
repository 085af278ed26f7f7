// What goes wrong outside of the arguments: memory that runs out, copies and launches that fail, a
// device that is lost; and what must not happen: allocations in steady state, calls from several
// threads that disturb each other.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "cuda/backend_suites.h"
#include "cuda/device_layer.h"
#include "native/check.h"
#include "native/fixture.h"

#if defined(SIMT_EMULATOR)
#include <simt/faults.h>
#endif

namespace native_test {
namespace {

const SeBackend& backend() { return *se_backend_entry(); }

std::vector<char> random_hidden(LayerFixture* fixture, int64_t num_tokens) {
  return random_bytes(&fixture->random, num_tokens * fixture->layer.hidden_size, SE_F32, 1);
}

void test_device() {
  SeStatus status{};
  SeDeviceInfo info{};
  const SeBackend& table = backend();
  check(table.abi_version == SE_BACKEND_ABI_VERSION && table.table_bytes == sizeof(SeBackend),
        "table header");
  check(std::string(table.name) == "cuda" && table.build[0] != '\0' &&
            std::strstr(table.architectures, "sm_") != nullptr,
        std::string("what is compiled in: ") + table.architectures);
  const int32_t count = table.device_count(&status);
  check(count >= 1 && status.code == SE_OK, "a device");
  check(
      table.device_info(0, &info, &status) == SE_OK && info.unavailable[0] == '\0' &&
          std::strncmp(info.architecture, "sm_", 3) == 0 && info.compute_units >= 1 &&
          info.total_bytes > 0,
      std::string("device info: ") + info.name + " " + info.architecture + " " + info.unavailable);
  for (const int32_t index : {-1, count, 1000})
    check(table.device_info(index, &info, &status) == SE_INVALID_ARGUMENT, "no such device");
  SeDevice* device = nullptr;
  check(table.device_open(count, &device, &status) == SE_INVALID_ARGUMENT && device == nullptr,
        "a device that is not there does not open");
  for (const char* text : {"0", "-5", "many", "9x"}) {
    setenv("SPARSE_EXPERTS_CUDA_WAVE_BYTES", text, 1);
    check(table.device_open(0, &device, &status) == SE_DEVICE_UNAVAILABLE && device == nullptr &&
              std::strstr(status.message, text) != nullptr,
          std::string("SPARSE_EXPERTS_CUDA_WAVE_BYTES=") + text + " is refused");
    check(table.device_info(0, &info, &status) == SE_OK &&
              std::strstr(info.unavailable, "WAVE_BYTES") != nullptr,
          "device info says why");
  }
  unsetenv("SPARSE_EXPERTS_CUDA_WAVE_BYTES");
  table.device_close(nullptr);
  table.layer_close(nullptr);
}

// After the first calls nothing is allocated any more, with and without graphs.
void test_steady_state() {
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
    check(run_on_device(layer, large, &workspace, bytes).code == SE_OK, "a first call");
    const SeDeviceCounters before = device.counters();
#if defined(SIMT_EMULATOR)
    const simt::RuntimeCounters runtime_before = simt::runtime_counters();
#endif
    for (int run = 0; run < 10; ++run) {
      check(run_on_device(layer, run % 2 == 0 ? small : large, &workspace, bytes).code == SE_OK,
            "a later call");
    }
    const SeDeviceCounters after = device.counters();
    check(after.device_allocations == before.device_allocations &&
              after.device_bytes == before.device_bytes &&
              after.pinned_bytes == before.pinned_bytes,
          "no allocation in steady state");
    check(after.copied_to_device_bytes > before.copied_to_device_bytes &&
              after.copied_to_host_bytes > before.copied_to_host_bytes,
          "copies are counted");
#if defined(SIMT_EMULATOR)
    const simt::RuntimeCounters runtime_after = simt::runtime_counters();
    check(runtime_after.allocations == runtime_before.allocations &&
              runtime_after.host_allocations == runtime_before.host_allocations,
          "the runtime saw no allocation either");
    check(runtime_after.synchronisations - runtime_before.synchronisations == 10,
          "a forward waits once: " +
              std::to_string(runtime_after.synchronisations - runtime_before.synchronisations));
#endif
  }
}

// Layers on one device from several threads, and a device of one's own for each thread.
void test_threads() {
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
  check(wrong == 0, "calls from several threads");
}

// Memory that runs out is typed, and the device works on.
void test_out_of_memory() {
  const OpenDevice device;
  SeDeviceInfo info{};
  SeStatus status{};
  check(backend().device_info(0, &info, &status) == SE_OK && info.free_bytes > 0,
        "free bytes of an open device");
  LayerFixture fixture{LayerOptions()};
  const DeviceLayer layer(device.get(), fixture.layer);
  const std::vector<char> hidden = random_hidden(&fixture, 3);
  const ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult expected = run_on_device(layer, call);
  void* data = nullptr;
  const uint64_t too_much = info.free_bytes / 8 * 7;
  void* ballast = nullptr;
  if (!check(
          backend().memory_allocate(device.get(), info.free_bytes / 2, &ballast, &status) == SE_OK,
          "a ballast"))
    return;
  check(backend().memory_allocate(device.get(), too_much, &data, &status) == SE_OUT_OF_MEMORY &&
            data == nullptr && status.needed_bytes == too_much && status.free_bytes < too_much,
        "out of memory, with figures");
  check(same_bits(run_on_device(layer, call).output, expected.output), "the device works on");
  backend().memory_free(device.get(), ballast, info.free_bytes / 2);
}

#if defined(SIMT_EMULATOR)
// Every allocation, copy, launch, stream and event of a first call fails once: the call says so or
// does without, and the same call then succeeds with the right bits.
void test_planned_faults() {
  LayerOptions options;
  options.shared = 24;
  LayerFixture fixture(options);
  const OpenDevice device;
  const std::vector<char> hidden = random_hidden(&fixture, 5);
  const ForwardCall call(fixture, hidden, SE_F32);
  const ForwardResult expected = run_on_device(DeviceLayer(device.get(), fixture.layer), call);
  for (const char* kind : {"malloc", "host", "copy", "launch", "graph", "stream", "event"}) {
    int num_failed = 0;
    for (int n = 1; n < 40; ++n) {
      const DeviceLayer layer(device.get(), fixture.layer);
      const uint64_t bytes = workspace_bytes_of(layer, 5);
      const DeviceMemory workspace(device.get(), bytes);
      simt::set_faults(std::string(kind) + ":" + std::to_string(n));
      bool right = true;
      for (int run = 0; run < 3; ++run) {
        const ForwardResult result = run_on_device(layer, call, &workspace, bytes);
        if (result.code == SE_OK) {
          right = right && same_bits(result.output, expected.output);
        } else {
          ++num_failed;
          const bool memory = std::string(kind) == "malloc" || std::string(kind) == "host";
          right = right && result.code == (memory ? SE_OUT_OF_MEMORY : SE_INTERNAL);
        }
      }
      const bool reached = simt::pending_faults() == 0;
      simt::clear_faults();
      right =
          right && same_bits(run_on_device(layer, call, &workspace, bytes).output, expected.output);
      check(right, std::string("fault ") + kind + ":" + std::to_string(n));
      if (!reached) break;
    }
    const std::string name = kind;
    if (name == "copy" || name == "launch" || name == "malloc" || name == "host")
      check(num_failed > 0, "faults are met: " + name);
    if (name == "graph") check(num_failed == 0, "a graph that cannot be made is done without");
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
    check(after.live_streams == before.live_streams && after.live_events == before.live_events &&
              after.live_allocations == before.live_allocations,
          std::string("nothing is left after ") + fault);
  }
}

// A device that is lost while a graph replays.
void test_sticky_graph() {
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
      check(run_on_device(layer, call, &workspace, bytes).code == SE_OK, "before the failure");
    simt::set_faults("sticky:3");
    for (int run = 0; run < 2; ++run)
      check(run_on_device(layer, call, &workspace, bytes).code == SE_DEVICE_LOST,
            "lost in a graph, warm " + std::to_string(warm));
  }
  simt::revive_devices();
}

// A device and its layers give back all that they took.
void test_nothing_left() {
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
    check(run_on_device(second, call, &workspace, bytes).code == SE_OK, "a larger call");
    check(device.counters().graph_captures == 12, "a graph for each number of tokens");
    check(simt::runtime_counters().live_graphs - before.live_graphs <= 8, "a cache of 8 graphs");
  }
  const simt::RuntimeCounters after = simt::runtime_counters();
  check(after.live_allocations == before.live_allocations &&
            after.live_streams == before.live_streams && after.live_events == before.live_events &&
            after.live_graphs == before.live_graphs,
        "nothing is left of a closed device");
}

// From the first sticky error on every function says the same, and nothing hangs.
void test_sticky() {
  LayerFixture fixture{LayerOptions()};
  auto* device = new OpenDevice();
  auto* layer = new DeviceLayer(device->get(), fixture.layer);
  const std::vector<char> hidden = random_hidden(&fixture, 5);
  const ForwardCall call(fixture, hidden, SE_F32);
  const uint64_t bytes = workspace_bytes_of(*layer, 5);
  auto* workspace = new DeviceMemory(device->get(), bytes);
  check(run_on_device(*layer, call, workspace, bytes).code == SE_OK, "before the failure");
  simt::set_faults("sticky:2");
  const ForwardResult lost = run_on_device(*layer, call, workspace, bytes);
  check(lost.code == SE_DEVICE_LOST && std::strstr(lost.status.message, "cudaError") != nullptr,
        std::string("the device is lost: ") + lost.status.message);
  const std::string cause = lost.status.message;
  const simt::RuntimeCounters before = simt::runtime_counters();
  SeDevice* const handle = device->get();
  SeStatus status{};
  const auto is_lost = [&](int32_t code, const char* what) {
    check(code == SE_DEVICE_LOST && cause == status.message,
          std::string(what) + " says so too: " + status.message);
    status = SeStatus{};
  };
  const ForwardResult again = run_on_device(*layer, call, workspace, bytes);
  check(again.code == SE_DEVICE_LOST && cause == again.status.message, "forward says so again");
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
  check(backend().device_info(0, &info, &status) == SE_OK &&
            cause.compare(0, sizeof info.unavailable - 1, info.unavailable) == 0 &&
            info.name[0] != '\0',
        "device_info says so");
  check(workspace_bytes_of(*layer, 5) == bytes, "plans are still made");
  delete layer;
  delete workspace;
  delete device;
  const simt::RuntimeCounters after = simt::runtime_counters();
  check(after.launches == before.launches && after.copies == before.copies &&
            after.synchronisations == before.synchronisations &&
            after.live_allocations == before.live_allocations,
        "nothing was asked of the device after that");
  simt::revive_devices();
  const OpenDevice fresh;
  check(run_on_device(DeviceLayer(fresh.get(), fixture.layer), call).code == SE_OK,
        "a fresh device works");
}

void test_no_device() {
  SeStatus status{};
  SeDeviceInfo info{};
  SeDevice* device = nullptr;
  const auto with = [&](const char* variable, const char* value, const char* expected,
                        int32_t num_devices) {
    setenv(variable, value, 1);
    simt::reset_runtime();
    const std::string what = std::string(variable) + "=" + value;
    check(backend().device_count(&status) == num_devices, what + ": number of devices");
    if (num_devices == 0)
      check(
          status.code == SE_DEVICE_UNAVAILABLE && std::strstr(status.message, expected) != nullptr,
          what + ": " + status.message);
    check(backend().device_info(0, &info, &status) == SE_OK &&
              std::strstr(info.unavailable, expected) != nullptr,
          what + ": " + info.unavailable);
    check(backend().device_open(0, &device, &status) == SE_DEVICE_UNAVAILABLE &&
              device == nullptr && std::strstr(status.message, expected) != nullptr,
          what + ": does not open");
    unsetenv(variable);
    simt::reset_runtime();
  };
  with("SIMT_DRIVER", "none", "no NVIDIA driver", 0);
  with("SIMT_DRIVER", "11080", "update the driver", 0);
  with("SIMT_DEVICES", "0", "no NVIDIA GPU", 0);
  with("SIMT_COMPUTE_CAPABILITY", "75", "no code for sm_75", 1);
  check(backend().device_count(&status) == 1, "and the device is back");
}
#endif

}  // namespace

void test_backend_failures() {
  test_device();
  test_steady_state();
  test_threads();
  test_out_of_memory();
#if defined(SIMT_EMULATOR)
  test_nothing_left();
  test_planned_faults();
  test_sticky();
  test_sticky_graph();
  test_no_device();
#endif
}

}  // namespace native_test
