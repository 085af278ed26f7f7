// The emulated machine as the environment describes it (simt/faults.h lists the variables), and the
// limits that follow from a compute capability.
#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/state.h"

namespace simt::runtime {

namespace {

uint64_t number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const unsigned long long value = std::strtoull(text, &end, 10);
  return *end == '\0' ? value : otherwise;
}

// The index-th entry of a list "80,90", or its last.
int list_entry(const char* text, size_t index, int otherwise) {
  if (text == nullptr || *text == '\0') return otherwise;
  int value = otherwise;
  for (size_t i = 0; i <= index; ++i) {
    char* end = nullptr;
    const long parsed = std::strtol(text, &end, 10);
    if (end == text) break;
    value = static_cast<int>(parsed);
    if (*end != ',') break;
    text = end + 1;
  }
  return value;
}

}  // namespace

Environment read_environment() {
  Environment environment;
  const char* driver = std::getenv("SIMT_DRIVER");
  if (driver != nullptr && std::strcmp(driver, "none") == 0) {
    environment.driver_version = 0;
  } else {
    environment.driver_version = static_cast<int>(number("SIMT_DRIVER", CUDART_VERSION));
  }
  const uint64_t count = number("SIMT_DEVICES", 1);
  for (size_t i = 0; i < count && i < 64; ++i) {
    DeviceModel model;
    model.compute_capability = list_entry(std::getenv("SIMT_COMPUTE_CAPABILITY"), i, 80);
    model.multiprocessors = static_cast<int>(number("SIMT_MULTIPROCESSORS", 4));
    if (model.multiprocessors < 1) model.multiprocessors = 1;
    model.memory_bytes = number("SIMT_MEMORY_BYTES", 4ull << 30);
    environment.devices.push_back(model);
  }
  environment.polls = static_cast<int>(number("SIMT_POLLS", 3));
  return environment;
}

int DeviceModel::threads_per_multiprocessor() const {
  switch (compute_capability) {
    case 86:
    case 87:
    case 89:
    case 120:
    case 121:
      return 1536;
    case 75:
      return 1024;
    default:
      return 2048;
  }
}

int DeviceModel::blocks_per_multiprocessor() const {
  switch (compute_capability) {
    case 75:
    case 86:
    case 87:
      return 16;
    case 89:
    case 120:
    case 121:
      return 24;
    default:
      return 32;
  }
}

int64_t DeviceModel::shared_bytes_per_multiprocessor() const {
  switch (compute_capability) {
    case 75:
      return 64 * 1024;
    case 70:
      return 96 * 1024;
    case 86:
    case 89:
    case 120:
    case 121:
      return 100 * 1024;
    case 90:
    case 100:
    case 101:
    case 103:
    case 110:
      return 228 * 1024;
    default:
      return 164 * 1024;
  }
}

int64_t DeviceModel::shared_bytes_per_block() const {
  // 1 KiB of each block's share is the system's, from Ampere on.
  return shared_bytes_per_multiprocessor() - (compute_capability >= 80 ? 1024 : 0);
}

int64_t DeviceModel::l2_bytes() const {
  constexpr int64_t kMebibyte = 1 << 20;
  switch (compute_capability) {
    case 86:
      return 6 * kMebibyte;
    case 89:
      return 72 * kMebibyte;
    case 90:
      return 50 * kMebibyte;
    case 100:
    case 103:
      return 126 * kMebibyte;
    case 120:
      return 96 * kMebibyte;
    default:
      return 40 * kMebibyte;
  }
}

}  // namespace simt::runtime
