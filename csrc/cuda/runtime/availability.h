// Whether a GPU can be used by this build, and if not, why. Creates no context.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "abi/backend.h"

namespace sparse_experts::cuda {

// Architectures compiled in, as the build names them: "80 86 89 90 100 120+ptx".
const char* compiled_architectures();
// The same for people: "sm_80 sm_86 … sm_120 compute_120".
const char* architecture_names();

// Code for NN runs on the same major version with at least its minor one; NNa (code for one chip
// only) runs on NN alone; NN+ptx also runs, compiled by the driver, on everything newer.
bool is_architecture_served(const char* architectures, int compute_capability);

// Number of GPUs; 0 with a reason where there is none or the driver does not serve.
int count_devices(std::string* reason);
// The device's figures and, in `unavailable`, what keeps it from being used. Free bytes are known
// only where the process has the device open, else 0: asking would create a context.
void fill_device_info(int index, bool is_open, SeDeviceInfo* info);

}  // namespace sparse_experts::cuda
