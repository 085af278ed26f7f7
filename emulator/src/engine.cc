// The engine's door: options, the pool of blocks (each with its stacks and shared memory, reused
// from launch to launch), and the list of defects.
#include "simt/engine.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "block.h"
#include "race.h"
#include "simt/launch.h"

namespace simt {
namespace {

constexpr size_t kMostDefects = 1000;

// Never destroyed: kernels may still end while the process does.
struct State {
  std::mutex mutex;
  Options options;
  uint64_t launches = 0;
  std::vector<Defect> defects;
  std::vector<std::unique_ptr<detail::Block>> idle;
};

// An unknown value is no reason to run something else than asked for: it says so once and stays
// with the default.
void unknown(const char* name, const char* value) {
  std::fprintf(stderr, "simt: %s=%s is not known, the default holds\n", name, value);
}

Options from_environment() {
  Options options;
  if (const char* value = std::getenv("SIMT_SCHEDULE")) {
    if (std::strcmp(value, "forward") == 0) {
      options.schedule = Schedule::kForward;
    } else if (std::strcmp(value, "reverse") == 0) {
      options.schedule = Schedule::kReverse;
    } else if (std::strcmp(value, "random") == 0) {
      options.schedule = Schedule::kRandom;
    } else if (std::strcmp(value, "skewed") == 0) {
      options.schedule = Schedule::kSkewed;
    } else {
      unknown("SIMT_SCHEDULE", value);
    }
  }
  if (const char* value = std::getenv("SIMT_SEED"))
    options.seed = std::strtoull(value, nullptr, 10);
  if (const char* value = std::getenv("SIMT_BARRIERS")) {
    options.strict_barriers = std::strcmp(value, "permissive") != 0;
    if (options.strict_barriers && std::strcmp(value, "strict") != 0) {
      unknown("SIMT_BARRIERS", value);
    }
  }
  if (const char* value = std::getenv("SIMT_TENSOR_CORES")) {
    if (std::strcmp(value, "ampere") == 0) {
      options.tensor_cores = TensorCores::kAmpere;
    } else if (std::strcmp(value, "hopper") == 0) {
      options.tensor_cores = TensorCores::kHopper;
    } else if (std::strcmp(value, "ieee") != 0) {
      unknown("SIMT_TENSOR_CORES", value);
    }
  }
  if (const char* value = std::getenv("SIMT_TIMEOUT")) {
    const double seconds = std::strtod(value, nullptr);
    if (seconds > 0) {
      options.timeout_seconds = seconds;
    } else {
      unknown("SIMT_TIMEOUT", value);
    }
  }
  if (const char* value = std::getenv("SIMT_STACK_BYTES")) {
    const unsigned long long bytes = std::strtoull(value, nullptr, 10);
    if (bytes >= 16 * 1024) {
      options.stack_bytes = bytes;
    } else {
      unknown("SIMT_STACK_BYTES", value);
    }
  }
  return options;
}

State& state() {
  static State* const kept = [] {
    State* fresh = new State;
    fresh->options = from_environment();
    return fresh;
  }();
  return *kept;
}

struct RaceLock {
  RaceLock() { detail::race_lock(); }
  ~RaceLock() { detail::race_unlock(); }
  RaceLock(const RaceLock&) = delete;
  RaceLock& operator=(const RaceLock&) = delete;
};

}  // namespace

Options options() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().options;
}

void set_options(const Options& options) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().options = options;
  state().launches = 0;  // the same options run the same way again
}

std::vector<Defect> defects() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().defects;
}

void clear_defects() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().defects.clear();
}

const char* defect_kind_name(DefectKind kind) {
  switch (kind) {
    case DefectKind::kDivergence:
      return "divergence";
    case DefectKind::kDeadlock:
      return "deadlock";
    case DefectKind::kLivelock:
      return "livelock";
    case DefectKind::kRace:
      return "race";
    case DefectKind::kUninitialised:
      return "uninitialised read";
    case DefectKind::kInFlight:
      return "copy in flight";
    case DefectKind::kMisaligned:
      return "misaligned address";
    case DefectKind::kOutOfBounds:
      return "out of bounds";
    case DefectKind::kDependency:
      return "dependency between launches";
    case DefectKind::kResources:
      return "resources";
    case DefectKind::kProtocol:
      return "protocol";
    case DefectKind::kException:
      return "exception";
  }
  return "unknown";
}

std::string describe(const Defect& defect) {
  const auto triple = [](uint3 index) {
    return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
           std::to_string(index.z) + ")";
  };
  std::string text = std::string("simt: ") + defect_kind_name(defect.kind) + " in kernel " +
                     (defect.kernel.empty() ? "?" : defect.kernel) + ", block " +
                     triple(defect.block) + ", thread " + triple(defect.thread);
  if (defect.line != 0) text += ", " + defect.file + ":" + std::to_string(defect.line);
  return text + "\n" + defect.text;
}

bool run_grid(const KernelLaunch& launch, Defect* first_defect) {
  std::unique_ptr<detail::Block> block;
  Options options;
  uint64_t number;
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    options = state().options;
    number = state().launches++;
    if (!state().idle.empty()) {
      block = std::move(state().idle.back());
      state().idle.pop_back();
    }
  }
  if (block == nullptr) block = std::make_unique<detail::Block>();
  bool clean;
  {
    const RaceLock race_lock;
    clean = block->run_grid(launch, options, options.seed * 1000003u + number);
  }
  detail::keep_counters(*block);
  if (!clean && first_defect != nullptr) *first_defect = block->defect;
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (!clean && state().defects.size() < kMostDefects) state().defects.push_back(block->defect);
  state().idle.push_back(std::move(block));
  return clean;
}

cudaError_t validate_launch(const KernelLaunch& launch) {
  const dim3 grid = launch.grid;
  const dim3 block = launch.block;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  if (block.x == 0 || block.y == 0 || block.z == 0 || block.x > 1024 || block.y > 1024 ||
      block.z > 64 || static_cast<uint64_t>(block.x) * block.y * block.z > detail::kMaxThreads) {
    return cudaErrorInvalidConfiguration;
  }
  if (launch.function == nullptr) return cudaErrorInvalidDeviceFunction;
  if (launch.shared_bytes > kernel_shared_limit(launch.function)) return cudaErrorInvalidValue;
  return cudaSuccess;
}

size_t total_shared_limit(const void* function) {
  constexpr size_t kUsual = 48 * 1024;
  if (kernel_shared_limit(function) <= kUsual) return kUsual;
  int device = 0;
  int bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
          cudaSuccess) {
    return kUsual;
  }
  return static_cast<size_t>(bytes);
}

}  // namespace simt
