// cuda_tests [--filter TEXT] [--schedule NAME[:SEED]] [--list]
//   runs the kernel suites; on the emulator each one under every schedule, on a GPU once
// The last line reads "N passed, M failed"; the exit status is 0 only when M is 0.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpp/runner.h"
#include "cuda/context.h"
#include "cuda/device_array.h"

#if defined(SIMT_EMULATOR)
#include <simt/engine.h>
#include <simt/faults.h>
#endif

namespace native_test {
namespace {

using sparse_experts::testing::must;

CudaContext context;

struct Schedule {
  const char* name;
  uint64_t seed;
};

// All that the emulator knows; random orders twice.
const Schedule kSchedules[] = {
    {"forward", 1}, {"reverse", 1}, {"random", 1}, {"random", 2}, {"skewed", 1},
};

#if defined(SIMT_EMULATOR)
bool apply_schedule(const std::string& name, uint64_t seed) {
  simt::Options options = simt::options();
  if (name == "forward") {
    options.schedule = simt::Schedule::kForward;
  } else if (name == "reverse") {
    options.schedule = simt::Schedule::kReverse;
  } else if (name == "random") {
    options.schedule = simt::Schedule::kRandom;
  } else if (name == "skewed") {
    options.schedule = simt::Schedule::kSkewed;
  } else {
    return false;
  }
  options.seed = seed;
  simt::set_options(options);
  return true;
}
#endif

int64_t attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  must(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

// A device that an earlier case broke says nothing about this one.
void revive() {
#if defined(SIMT_EMULATOR)
  simt::revive_devices();
#endif
}

std::string left_behind() {
  const cudaError_t left = cudaDeviceSynchronize();
  return left == cudaSuccess ? "" : std::string("the case leaves ") + cudaGetErrorName(left);
}

int run(test_runner::Runner* runner, const std::string& only, uint64_t only_seed) {
  context.limits = device_limits();
  std::vector<Schedule> schedules;
#if defined(SIMT_EMULATOR)
  if (only.empty()) {
    schedules.assign(std::begin(kSchedules), std::end(kSchedules));
  } else {
    schedules.push_back({only.c_str(), only_seed});
  }
#else
  if (!only.empty()) std::printf("a GPU has its own schedule: --schedule is ignored\n");
  static_cast<void>(only_seed);
  static_cast<void>(kSchedules);
  schedules.push_back({"device", 1});
#endif
  for (const Schedule& schedule : schedules) {
    context.schedule = schedule.name;
    if (schedule.seed != 1) context.schedule += " " + std::to_string(schedule.seed);
#if defined(SIMT_EMULATOR)
    if (!apply_schedule(schedule.name, schedule.seed)) {
      std::fprintf(stderr, "no schedule %s: forward, reverse, random or skewed\n", schedule.name);
      return 2;
    }
#endif
    runner->run(context.schedule,
                is_first_schedule() ? std::vector<std::string>() : std::vector<std::string>{"abi"});
  }
  return runner->finish();
}

}  // namespace

sparse_experts::cuda::DeviceLimits device_limits() {
  int device = 0;
  must(cudaGetDevice(&device), "cudaGetDevice");
  sparse_experts::cuda::DeviceLimits limits;
  limits.compute_capability =
      static_cast<int32_t>(10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                           attribute(cudaDevAttrComputeCapabilityMinor, device));
  limits.num_multiprocessors =
      static_cast<int32_t>(attribute(cudaDevAttrMultiProcessorCount, device));
  limits.shared_bytes_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  limits.shared_bytes_per_multiprocessor =
      attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  limits.l2_bytes = attribute(cudaDevAttrL2CacheSize, device);
  return limits;
}

const CudaContext& current() { return context; }

bool is_first_schedule() { return context.schedule == "forward" || context.schedule == "device"; }

}  // namespace native_test

int main(int argc, char** argv) {
  test_runner::Runner runner(&argc, argv, {native_test::revive, native_test::left_behind});
  if (runner.is_listing()) return runner.list();
  std::string schedule;
  uint64_t seed = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--schedule" && i + 1 < argc) {
      schedule = argv[++i];
      const size_t colon = schedule.find(':');
      if (colon != std::string::npos) {
        seed = std::strtoull(schedule.c_str() + colon + 1, nullptr, 10);
        schedule.resize(colon);
      }
    } else {
      std::fprintf(stderr, "usage: cuda_tests [--filter TEXT] [--schedule NAME[:SEED]] [--list]\n");
      return 2;
    }
  }
  return native_test::run(&runner, schedule, seed);
}
