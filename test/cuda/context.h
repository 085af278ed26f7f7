// What the suites of cuda_tests run on.
#pragma once

#include <string>

#include "cuda/ops/limits.h"

namespace native_test {

struct CudaContext {
  sparse_experts::cuda::DeviceLimits limits;  // of the current device
  std::string schedule;                       // "forward", "random 2", …; "device" on a GPU
};

// Of the device that is current now, which a case may have changed.
sparse_experts::cuda::DeviceLimits device_limits();

// Of the round that runs. On the emulator each round has another schedule.
const CudaContext& current();

// The suite abi, and the longer half of some others, run under one schedule only.
bool is_first_schedule();

}  // namespace native_test
