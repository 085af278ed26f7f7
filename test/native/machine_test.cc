// What does not depend on an instruction set: the table of the backend, devices and their figures.
#include <cstdlib>
#include <cstring>

#include "cpp/check.h"
#include "cpu/backend.h"
#include "oracle/fixture.h"

namespace native_test {
namespace {

TEST_SUITE_BEGIN("machine");

// describe_forward must not read weights nor change counters.
TEST_CASE("describe_forward") {
  const SeBackend* backend = sparse_experts::cpu_backend();
  SeStatus status{};
  SeDevice* device = nullptr;
  CHECK_MESSAGE(backend->device_open(0, &device, &status) == SE_OK, "opens");
  const LayerFixture fixture{LayerOptions()};
  SeForwardDescription description;
  std::memset(&description, 0xff, sizeof description);
  backend->describe_forward(device, &fixture.layer, &kDefaultOptions, 5, &description);
  for (const char* text : {description.gate, description.select, description.dispatch,
                           description.gate_up, description.down, description.combine})
    CHECK_MESSAGE((std::strlen(text) > 4 && std::strlen(text) < 160),
                  "a stage runs: ", std::string(text));
  SeDeviceCounters counters;
  std::memset(&counters, 0xff, sizeof counters);
  backend->device_counters(device, &counters);
  CHECK_MESSAGE(counters.device_allocations == 0, "a device of the host counts nothing");
  CHECK_MESSAGE(counters.device_bytes == 0, "a device of the host counts nothing");
  CHECK_MESSAGE(counters.kernel_launches == 0, "a device of the host counts nothing");
  CHECK_MESSAGE(counters.copied_to_host_bytes == 0, "a device of the host counts nothing");
  LayerFixture broken{LayerOptions()};
  broken.layer.routing.top_k = 99;
  SeLayer* layer = reinterpret_cast<SeLayer*>(&broken);
  CHECK_MESSAGE(backend->layer_open(device, &broken.layer, &kDefaultOptions, &layer, &status) ==
                    SE_INVALID_ARGUMENT,
                "a layer that contradicts itself does not open");
  CHECK_MESSAGE(layer == nullptr, "a layer that contradicts itself does not open");
  backend->layer_close(nullptr);
  backend->device_close(device);
}

TEST_CASE("the device of the machine") {
  const SeBackend* backend = sparse_experts::cpu_backend();
  SeStatus status{};
  SeDeviceInfo info{};
  CHECK_MESSAGE(backend->abi_version == SE_BACKEND_ABI_VERSION, "table header");
  CHECK_MESSAGE(backend->table_bytes == sizeof(SeBackend), "table header");
  CHECK_MESSAGE(backend->device_count(&status) == 1, "one device");
  CHECK_MESSAGE(backend->device_info(0, &info, &status) == SE_OK, "device info");
  CHECK_MESSAGE(info.unavailable[0] == '\0', "device info");
  CHECK_MESSAGE(info.compute_units >= 1, "device figures");
  CHECK_MESSAGE(info.total_bytes >= info.free_bytes, "device figures");
  CHECK_MESSAGE(info.free_bytes > 0, "device figures");
  CHECK_MESSAGE(backend->device_info(1, &info, &status) == SE_INVALID_ARGUMENT, "no device 1");
  SeDevice* device = nullptr;
  setenv("SPARSE_EXPERTS_CPU_ISA", "altivec", 1);
  CHECK_MESSAGE(backend->device_open(0, &device, &status) == SE_DEVICE_UNAVAILABLE,
                "an unknown instruction set is refused with its name");
  CHECK_MESSAGE(device == nullptr, "an unknown instruction set is refused with its name");
  CHECK_MESSAGE(std::strstr(status.message, "altivec") != nullptr,
                "an unknown instruction set is refused with its name");
  CHECK_MESSAGE(backend->device_info(0, &info, &status) == SE_OK, "device info says why");
  CHECK_MESSAGE(std::strstr(info.unavailable, "altivec") != nullptr, "device info says why");
  unsetenv("SPARSE_EXPERTS_CPU_ISA");
  for (const char* text : {"0", "-3", "many", "2x", "99999999999"}) {
    setenv("SPARSE_EXPERTS_THREADS", text, 1);
    CHECK_MESSAGE(backend->device_open(0, &device, &status) == SE_DEVICE_UNAVAILABLE,
                  "SPARSE_EXPERTS_THREADS=", std::string(text), " is refused");
  }
  unsetenv("SPARSE_EXPERTS_THREADS");
  CHECK_MESSAGE(std::strstr(backend->architectures, "scalar") != nullptr, "what is compiled in");
  CHECK_MESSAGE(backend->build[0] != '\0', "what is compiled in");
}

TEST_SUITE_END();

}  // namespace
}  // namespace native_test
