// cuda_tests [--filter TEXT] [--schedule NAME[:SEED]] [--list]
//   runs the kernel suites; on the emulator each one under every schedule, on a GPU once
// The last line reads "N passed, M failed"; the exit status is 0 only when M is 0.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "cuda/harness.h"
#include "cuda/suites.h"

#if defined(SIMT_EMULATOR)
#include <simt/engine.h>
#endif

namespace native_test {

// Weak: a program may be linked with some of the suites. One that is asked for and missing fails.
#define SE_SUITE(name) __attribute__((weak)) void name(const CudaContext& context)
SE_SUITE(test_gate);
SE_SUITE(test_select);
SE_SUITE(test_capacity);
SE_SUITE(test_dispatch);
SE_SUITE(test_matmul_half);
SE_SUITE(test_matmul_f32);
SE_SUITE(test_combine);
SE_SUITE(test_elementwise);
SE_SUITE(test_backend);
#undef SE_SUITE

namespace {

struct Suite {
  const char* name;
  void (*run)(const CudaContext&);
};

const Suite kSuites[] = {
    {"gate", test_gate},         {"select", test_select},           {"capacity", test_capacity},
    {"dispatch", test_dispatch}, {"matmul_half", test_matmul_half}, {"matmul_f32", test_matmul_f32},
    {"combine", test_combine},   {"elementwise", test_elementwise}, {"backend", test_backend},
};

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

void run_suite(const Suite& suite, const CudaContext& context) {
  const int passed_before = passed;
  const int failed_before = failed;
  if (suite.run == nullptr) {
    check(false, std::string(suite.name) + ": not linked into this program");
    return;
  }
  try {
    suite.run(context);
  } catch (const std::exception& error) {
    check(false, std::string(suite.name) + ": " + error.what());
  }
  const cudaError_t left = cudaDeviceSynchronize();
  check(left == cudaSuccess,
        std::string(suite.name) + ": the suite leaves " + cudaGetErrorName(left));
  check(passed + failed > passed_before + failed_before + 1,
        std::string(suite.name) + ": the suite checks something");
  std::printf("%-12s %-10s %d passed, %d failed\n", suite.name, context.schedule.c_str(),
              passed - passed_before, failed - failed_before);
}

int run(const std::string& filter, const std::string& only, uint64_t only_seed) {
  CudaContext context;
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
  int selected = 0;
  for (const Suite& suite : kSuites) {
    if (!filter.empty() && std::strstr(suite.name, filter.c_str()) == nullptr) continue;
    ++selected;
    for (const Schedule& schedule : schedules) {
      context.schedule = schedule.name;
      if (schedule.seed != 1) context.schedule += " " + std::to_string(schedule.seed);
#if defined(SIMT_EMULATOR)
      if (!apply_schedule(schedule.name, schedule.seed)) {
        std::fprintf(stderr, "no schedule %s: forward, reverse, random or skewed\n", schedule.name);
        return 2;
      }
      // A device that an earlier suite broke says nothing about this one.
      simt::revive_devices();
#endif
      run_suite(suite, context);
    }
  }
  check(selected > 0, "no suite matches " + filter);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace native_test

int main(int argc, char** argv) {
  std::string filter;
  std::string schedule;
  uint64_t seed = 1;
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--list") {
      for (const native_test::Suite& suite : native_test::kSuites) std::printf("%s\n", suite.name);
      return 0;
    }
    if (option == "--filter" && i + 1 < argc) {
      filter = argv[++i];
    } else if (option == "--schedule" && i + 1 < argc) {
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
  return native_test::run(filter, schedule, seed);
}
