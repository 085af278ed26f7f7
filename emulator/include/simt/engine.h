// The engine's interface for a runtime and for tests: run a grid, learn of its defects, choose how
// threads are scheduled.
//   - a defect is a programming error in a kernel (a race, a barrier not reached by all, …); the
//     first one stops the kernel
//   - everything here may be called from any OS thread; a grid runs on the calling one
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "simt/types.h"

namespace simt {

struct KernelLaunch {
  std::string name;
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  size_t shared_limit = 48 * 1024;  // of the dynamic part and all arrays together; more is a defect
  const void* function = nullptr;
  bool early =
      false;  // may start before the launch before it has ended (programmatic serialisation)
  std::function<void()> body;  // one thread of the kernel; called once per thread of the grid
};

enum class DefectKind {
  kDivergence,  // a collective or barrier that not all its threads reach, or with other arguments
  kDeadlock,    // no thread can run
  kLivelock,    // no end in sight within the time limit
  kRace,        // two unordered accesses, one of them a write
  kUninitialised,  // shared memory read before it was written
  kInFlight,       // touched, or left behind, while an asynchronous copy is under way
  kMisaligned,     // an address the hardware would refuse
  kOutOfBounds,    // outside of every allocation
  kDependency,     // an early launch that does not wait for the one before, or not soon enough
  kResources,      // more shared memory than the device has
  kProtocol,       // an asynchronous instruction used against its rules
  kException,      // a C++ exception left the kernel
};

struct Defect {
  DefectKind kind = DefectKind::kDeadlock;
  std::string text;  // one or more lines, complete
  std::string kernel;
  std::string file;  // of the operation; empty if not known
  int line = 0;
  uint3 block = {0, 0, 0};
  uint3 thread = {0, 0, 0};
};

const char* defect_kind_name(DefectKind kind);

// All that is known of a defect, as it should be printed.
std::string describe(const Defect& defect);

// Runs all blocks of the grid on the calling OS thread. False: a defect stopped the kernel; it is
// in *first_defect (may be null) and in defects().
bool run_grid(const KernelLaunch& launch, Defect* first_defect);

// Defects of all kernels since the last clear_defects(), oldest first (at most 1000 are kept).
std::vector<Defect> defects();
void clear_defects();

enum class Schedule {
  kForward,  // lanes and warps in rising order, a warp's turn ends at a collective
  kReverse,  // falling; blocks as well
  kRandom,   // any ready thread at every step; blocks in random order
  kSkewed,   // a favoured warp runs as far ahead as it can; blocks in random order
};

// How tensor cores sum products of 16-bit numbers (bf16 and f16 into f32).
enum class TensorCores {
  kIeee,    // one by one in rising k, each rounded to nearest
  kAmpere,  // 8 products and the sum at once, cut off at 24 bits below the greatest, twice per k16
  kHopper,  // 16 products and the sum at once, cut off at 25 bits
};

struct Options {
  Schedule schedule = Schedule::kForward;  // SIMT_SCHEDULE=forward|reverse|random|skewed
  uint64_t seed = 1;                       // SIMT_SEED
  bool strict_barriers = true;             // SIMT_BARRIERS=strict|permissive
  double timeout_seconds =
      60;  // SIMT_TIMEOUT: processor time; a block that takes more is a livelock
  TensorCores tensor_cores = TensorCores::kIeee;  // SIMT_TENSOR_CORES=ieee|ampere|hopper
  size_t stack_bytes = 128 * 1024;  // SIMT_STACK_BYTES: per thread, rounded up to pages
};

Options options();  // from the environment at first use
void set_options(const Options& options);

// Name of a function of this process as far as the symbol tables tell, demangled, else "".
std::string function_name(const void* function);

}  // namespace simt
