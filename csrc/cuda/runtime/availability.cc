#include "cuda/runtime/availability.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/runtime/device.h"
#include "cuda/runtime/errors.h"

#if !defined(SE_CUDA_ARCHITECTURES)
#if defined(SIMT_EMULATOR)
#define SE_CUDA_ARCHITECTURES "80+ptx"
#else
#error "SE_CUDA_ARCHITECTURES must name what is compiled in, like \"80 90 120+ptx\""
#endif
#endif

namespace sparse_experts::cuda {
namespace {

// Calls body(number, suffix, has_ptx) for each name of the list.
template <typename Body>
void for_each_architecture(const char* list, const Body& body) {
  for (const char* at = list; *at != '\0';) {
    char* end = nullptr;
    const long number = std::strtol(at, &end, 10);
    if (end == at) {
      ++at;
      continue;
    }
    const size_t length = std::strcspn(end, " ");
    const std::string suffix(end, length);
    const size_t plus = suffix.find('+');
    body(static_cast<int>(number), suffix.substr(0, plus),
         plus != std::string::npos && suffix.substr(plus) == "+ptx");
    at = end + length;
  }
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string make_names() {
#if defined(SIMT_EMULATOR)
  return "emulated sm_80";
#else
  std::string names;
  for_each_architecture(SE_CUDA_ARCHITECTURES,
                        [&](int number, const std::string& suffix, bool has_ptx) {
                          const std::string name = std::to_string(number) + suffix;
                          names += (names.empty() ? "sm_" : " sm_") + name;
                          if (has_ptx) names += " compute_" + name;
                        });
  return names;
#endif
}

// Why no GPU of this machine can be used; "" where that is not so.
std::string driver_problem() {
  int driver = 0;
  int runtime = 0;
  cudaError_t error = cudaDriverGetVersion(&driver);
  if (error == cudaSuccess) error = cudaRuntimeGetVersion(&runtime);
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return error_text(error, "cudaDriverGetVersion");
  }
  if (driver == 0) return "no NVIDIA driver";
  // Within a major version any driver serves; what it lacks shows as an error of its own.
  if (driver / 1000 < runtime / 1000)
    return "the NVIDIA driver serves CUDA " + version_text(driver) + ", this build needs " +
           version_text(runtime) + ": update the driver";
  return "";
}

}  // namespace

const char* compiled_architectures() { return SE_CUDA_ARCHITECTURES; }

const char* architecture_names() {
  static const auto* names = new std::string(make_names());  // read until the process has ended
  return names->c_str();
}

bool is_architecture_served(const char* architectures, int compute_capability) {
  bool served = false;
  for_each_architecture(architectures, [&](int number, const std::string& suffix, bool has_ptx) {
    if (suffix == "a") {
      served = served || compute_capability == number;
      return;
    }
    const bool same_major = number / 10 == compute_capability / 10;
    served = served || (same_major && compute_capability >= number) ||
             (has_ptx && suffix.empty() && compute_capability >= number);
  });
  return served;
}

int count_devices(std::string* reason) {
  *reason = driver_problem();
  if (!reason->empty()) return 0;
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    *reason =
        error == cudaErrorNoDevice ? "no NVIDIA GPU" : error_text(error, "cudaGetDeviceCount");
    return 0;
  }
  if (count == 0) *reason = "no NVIDIA GPU";
  return count;
}

void fill_device_info(int index, bool is_open, SeDeviceInfo* info) {
  *info = SeDeviceInfo{};
  info->kind = SE_KIND_GPU;
  std::string reason;
  const auto refuse = [&](const std::string& why) {
    std::snprintf(info->unavailable, sizeof info->unavailable, "%s", why.c_str());
  };
  const int count = count_devices(&reason);
  if (count == 0) {
    std::snprintf(info->name, sizeof info->name, "CUDA");
    refuse(reason);
    return;
  }
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, index);
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    refuse(error_text(error, "cudaGetDeviceProperties"));
    return;
  }
  const int capability = 10 * properties.major + properties.minor;
  std::snprintf(info->name, sizeof info->name, "%.127s", properties.name);
  std::snprintf(info->architecture, sizeof info->architecture, "sm_%d", capability);
  info->total_bytes = properties.totalGlobalMem;
  info->compute_units = properties.multiProcessorCount;
  if (!is_architecture_served(SE_CUDA_ARCHITECTURES, capability))
    refuse("this build has no code for sm_" + std::to_string(capability) + " (" +
           architecture_names() + ")");
  uint64_t wave_bytes = 0;
  const Status environment = read_wave_bytes(&wave_bytes);
  if (!environment.is_ok()) refuse(environment.message());
  if (!is_open) return;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  if (cudaSetDevice(index) == cudaSuccess &&
      cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess) {
    info->free_bytes = free_bytes;
  } else {
    static_cast<void>(cudaGetLastError());
  }
}

}  // namespace sparse_experts::cuda
