// Self-test of the CPU backend without Node: native_tests [--bench] [--isa NAME]
// Every op and whole layers against naive double precision, on every instruction set of the
// machine.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "cpu/backend.h"
#include "cpu/isa/choose_isa.h"
#include "fixture.h"
#include "suites.h"

namespace native_test {
namespace {

void run_isa(const SeBackend* backend, const std::string& isa, bool bench) {
  setenv("SPARSE_EXPERTS_CPU_ISA", isa.c_str(), 1);
  SeStatus status{};
  SeDevice* device = nullptr;
  if (!check(backend->device_open(0, &device, &status) == SE_OK, isa + " opens: " + status.message))
    return;
  const Context context{backend, device, isa};
  if (bench) {
    run_bench(context);
  } else {
    test_activations(context);
    test_routing(context);
    test_stages(context);
    test_panels(context);
    test_forward(context);
    test_bits(context);
    test_faults(context);
    test_concurrency(context);
    std::printf("%s: %d passed, %d failed so far\n", isa.c_str(), passed, failed);
  }
  backend->device_close(device);
}

// Says what runs without reading a matrix, and counts nothing.
void test_description(const SeBackend* backend) {
  SeStatus status{};
  SeDevice* device = nullptr;
  check(backend->device_open(0, &device, &status) == SE_OK, "opens");
  const LayerFixture fixture{LayerOptions()};
  SeForwardDescription description;
  std::memset(&description, 0xff, sizeof description);
  backend->describe_forward(device, &fixture.layer, &kDefaultOptions, 5, &description);
  for (const char* text : {description.gate, description.select, description.dispatch,
                           description.gate_up, description.down, description.combine})
    check(std::strlen(text) > 4 && std::strlen(text) < 160, std::string("a stage runs: ") + text);
  SeDeviceCounters counters;
  std::memset(&counters, 0xff, sizeof counters);
  backend->device_counters(device, &counters);
  check(counters.device_allocations == 0 && counters.device_bytes == 0 &&
            counters.kernel_launches == 0 && counters.copied_to_host_bytes == 0,
        "a device of the host counts nothing");
  LayerFixture broken{LayerOptions()};
  broken.layer.routing.top_k = 99;
  SeLayer* layer = reinterpret_cast<SeLayer*>(&broken);
  check(backend->layer_open(device, &broken.layer, &kDefaultOptions, &layer, &status) ==
                SE_INVALID_ARGUMENT &&
            layer == nullptr,
        "a layer that contradicts itself does not open");
  backend->layer_close(nullptr);
  backend->device_close(device);
}

void test_device(const SeBackend* backend) {
  SeStatus status{};
  SeDeviceInfo info{};
  check(backend->abi_version == SE_BACKEND_ABI_VERSION && backend->table_bytes == sizeof(SeBackend),
        "table header");
  check(backend->device_count(&status) == 1, "one device");
  check(backend->device_info(0, &info, &status) == SE_OK && info.unavailable[0] == '\0',
        "device info");
  check(info.compute_units >= 1 && info.total_bytes >= info.free_bytes && info.free_bytes > 0,
        "device figures");
  check(backend->device_info(1, &info, &status) == SE_INVALID_ARGUMENT, "no device 1");
  SeDevice* device = nullptr;
  setenv("SPARSE_EXPERTS_CPU_ISA", "altivec", 1);
  check(backend->device_open(0, &device, &status) == SE_DEVICE_UNAVAILABLE && device == nullptr &&
            std::strstr(status.message, "altivec") != nullptr,
        "an unknown instruction set is refused with its name");
  check(backend->device_info(0, &info, &status) == SE_OK &&
            std::strstr(info.unavailable, "altivec") != nullptr,
        "device info says why");
  unsetenv("SPARSE_EXPERTS_CPU_ISA");
  for (const char* text : {"0", "-3", "many", "2x", "99999999999"}) {
    setenv("SPARSE_EXPERTS_THREADS", text, 1);
    check(backend->device_open(0, &device, &status) == SE_DEVICE_UNAVAILABLE,
          std::string("SPARSE_EXPERTS_THREADS=") + text + " is refused");
  }
  unsetenv("SPARSE_EXPERTS_THREADS");
  check(std::strstr(backend->architectures, "scalar") != nullptr && backend->build[0] != '\0',
        "what is compiled in");
  test_description(backend);
}

}  // namespace
}  // namespace native_test

int main(int argc, char** argv) {
  using namespace native_test;
  bool bench = false;
  std::vector<std::string> only;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--bench") == 0) bench = true;
    if (std::strcmp(argv[i], "--isa") == 0 && i + 1 < argc) only.push_back(argv[++i]);
  }
  const SeBackend* backend = sparse_experts::cpu_backend();
  if (!bench) test_device(backend);
  // Four participants whatever the machine has, so that threads are exercised everywhere; benches
  // take what is there.
  if (!bench) setenv("SPARSE_EXPERTS_THREADS", "4", 1);
  for (auto isa = sparse_experts::cpu::available_isas(); *isa != nullptr; ++isa) {
    if (only.empty() || std::find(only.begin(), only.end(), (*isa)->name) != only.end())
      run_isa(backend, (*isa)->name, bench);
  }
  if (!bench) std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
