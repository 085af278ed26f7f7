// What the plan of a forward may depend on, besides the layer.
#pragma once

#include <cstdint>

#include "cuda/ops/limits.h"

namespace sparse_experts::cuda {

// Below this nothing can be said to be a wave.
constexpr uint64_t kLeastWaveBytes = 1 << 16;

struct PlanLimits {
  DeviceLimits device;
  // Ceiling of one wave's intermediates. Each wave reads the weights of its experts again, so it is
  // wide: 4096 tokens of the largest families fit.
  uint64_t wave_bytes = uint64_t{1} << 30;
};

}  // namespace sparse_experts::cuda
