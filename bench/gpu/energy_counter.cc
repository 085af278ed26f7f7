#include "energy_counter.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "bench_layer.h"

namespace sparse_experts::bench {
namespace {

template <typename Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

}  // namespace

EnergyCounter::EnergyCounter(const std::string& library) { problem_ = open(library); }

std::string EnergyCounter::open(const std::string& library) {
  library_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) return dlerror();
  int (*init)() = nullptr;
  int (*find_device)(const char* bus, Device* device) = nullptr;
  if (!find(library_, "nvmlInit_v2", &init) ||
      !find(library_, "nvmlDeviceGetHandleByPciBusId_v2", &find_device) ||
      !find(library_, "nvmlDeviceGetTotalEnergyConsumption", &read_))
    return library + " lacks a function";
  int current = 0;
  char bus[32] = "";
  must(cudaGetDevice(&current), "device");
  must(cudaDeviceGetPCIBusId(bus, sizeof bus, current), "bus");
  int status = init();
  if (status == 0) status = find_device(bus, &device_);
  unsigned long long ignored = 0;
  if (status == 0) status = read_(device_, &ignored);
  return status == 0 ? "" : library + " says " + std::to_string(status);
}

// Without nvmlShutdown: the process ends.
EnergyCounter::~EnergyCounter() {
  if (library_ != nullptr) dlclose(library_);
}

uint64_t EnergyCounter::millijoules() const {
  unsigned long long energy = 0;
  const int status = read_(device_, &energy);
  if (status != 0) {
    std::fprintf(stderr, "cuda_bench: the energy counter says %d\n", status);
    std::exit(1);
  }
  return energy;
}

}  // namespace sparse_experts::bench
