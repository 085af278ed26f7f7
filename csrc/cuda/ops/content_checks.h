// Checks of what device arrays hold, before a kernel reads through them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/launch_stream.h"
namespace sparse_experts::cuda {

// Each leaves in `*fault` the least number of an element that breaks its rule,
// if it is below what is there already (start with INT64_MAX): deterministic whatever runs first.
cudaError_t launch_check_range(const int32_t* values, int64_t count, int32_t least, int32_t most,
                               int64_t* fault, LaunchStream stream);
cudaError_t launch_check_row_top_k(const uint8_t* values, int64_t count, int32_t most,
                                   int64_t* fault, LaunchStream stream);
// offsets[0] = 0, rising, last at most num_slots.
cudaError_t launch_check_offsets(const int32_t* offsets, int64_t num_experts, int64_t num_slots,
                                 int64_t* fault, LaunchStream stream);
// slots[i] in [0, num_slots) for i < *num_listed (clamped to [0, num_slots]).
cudaError_t launch_check_slots(const int32_t* slots, const int32_t* num_listed, int64_t num_slots,
                               int64_t* fault, LaunchStream stream);

}  // namespace sparse_experts::cuda
