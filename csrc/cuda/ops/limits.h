// What a kernel's configuration may depend on: sizes and limits, never a device's name. The compute
// capability is for the table of variants (cuda/variants.h) and for nothing else: it says which
// formulations a device can run.
#pragma once

#include <cstdint>

namespace sparse_experts::cuda {

struct DeviceLimits {
  int32_t compute_capability = 80;  // 10 * major + minor
  int32_t num_multiprocessors = 108;
  int64_t shared_bytes_per_block = 166912;  // opt-in maximum (sm_80: 163 KiB; 86, 89, 120: 99 KiB)
  int64_t shared_bytes_per_multiprocessor = 167936;
  int64_t l2_bytes = 40 << 20;
};

}  // namespace sparse_experts::cuda
