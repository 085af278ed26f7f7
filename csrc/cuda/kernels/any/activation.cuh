// What stands between an expert's two matmuls, one element at a time in f32:
//   gated:   act(min(gate, gate_limit or limit)) * (clamp(up, -limit, limit) + up_offset), the limits only where
//            limit > 0
//   ungated: act(up)
// SITU caps neither: its up is limit * tanh(up / limit).
// Comparisons are written so that a NaN stays one. The exponentials are the accurate ones: an
// approximate tanh or exp would show beside the f32 accumulators.
#pragma once

#include <cuda_runtime.h>

#include "abi/backend.h"

namespace sparse_experts::cuda {

// v * sigmoid(alpha * v); e^(-alpha v) overflows to infinity, where the quotient is the right -0.
__device__ __forceinline__ float silu(float v, float alpha) {
  return v / (1.0f + expf(-alpha * v));
}

// v * Phi(v) by erfc, whose small tail keeps its relative accuracy. Minus infinity times 0 would be
// NaN, as it is in the reference.
__device__ __forceinline__ float gelu(float v) {
  return 0.5f * v * erfcf(-0.70710678118654752f * v);
}

// 0.5 v (1 + tanh(y)) = v / (1 + e^(-2 y)), y = sqrt(2 / pi) (v + 0.044715 v^3): the quotient has
// no cancellation for negative v.
__device__ __forceinline__ float gelu_tanh(float v) {
  const float y = 0.79788456080286536f * v * fmaf(0.044715f * v, v, 1.0f);
  return v / (1.0f + expf(-2.0f * y));
}

__device__ __forceinline__ float relu(float v) { return v < 0.0f ? 0.0f : v; }

__device__ __forceinline__ float bounded(float v, float bound) { return bound * tanhf(v / bound); }

template <int kKind>
__device__ __forceinline__ float activate(float v, float alpha) {
  if constexpr (kKind == SE_SITU) return bounded(v, alpha) / (1.0f + expf(-v));
  if constexpr (kKind == SE_SILU) return silu(v, alpha);
  if constexpr (kKind == SE_GELU) return gelu(v);
  if constexpr (kKind == SE_GELU_TANH) return gelu_tanh(v);
  if constexpr (kKind == SE_RELU) return relu(v);
  if constexpr (kKind == SE_RELU2) return relu(v) * relu(v);
  return v;
}

template <int kKind>
__device__ __forceinline__ float activate_gated(float gate, float up,
                                                const SeActivationSpec& spec) {
  if constexpr (kKind == SE_SITU) {
    if (spec.limit > 0.0f) up = bounded(up, spec.limit);
  } else if (spec.limit > 0.0f) {
    const float cap = spec.gate_limit > 0.0f ? spec.gate_limit : spec.limit;
    gate = gate > cap ? cap : gate;
    up = up > spec.limit ? spec.limit : up;
    up = up < -spec.limit ? -spec.limit : up;
  }
  return activate<kKind>(gate, spec.alpha) * (up + spec.up_offset);
}

// up[i] becomes the activation of element i; gate counts only where kGated. One branch on the kind
// for all of the elements.
template <bool kGated, int kKind, int kCount>
__device__ __forceinline__ void activate_kind(const SeActivationSpec& spec,
                                              const float (&gate)[kCount], float (&up)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if constexpr (kGated) {
      up[i] = activate_gated<kKind>(gate[i], up[i], spec);
    } else {
      up[i] = activate<kKind>(up[i], spec.alpha);
    }
  }
}

// In a loop over many, `kKind` takes the branch out of it: the commonest has a loop of its own.
constexpr int kAnyKind = -1;

template <bool kGated, int kKind = kAnyKind, int kCount>
__device__ __forceinline__ void activate_elements(const SeActivationSpec& spec,
                                                  const float (&gate)[kCount],
                                                  float (&up)[kCount]) {
  switch (kKind != kAnyKind ? kKind : spec.kind) {
    case SE_SILU:
      return activate_kind<kGated, SE_SILU>(spec, gate, up);
    case SE_GELU:
      return activate_kind<kGated, SE_GELU>(spec, gate, up);
    case SE_GELU_TANH:
      return activate_kind<kGated, SE_GELU_TANH>(spec, gate, up);
    case SE_RELU:
      return activate_kind<kGated, SE_RELU>(spec, gate, up);
    case SE_RELU2:
      return activate_kind<kGated, SE_RELU2>(spec, gate, up);
    case SE_SITU:
      return activate_kind<kGated, SE_SITU>(spec, gate, up);
    default:
      return activate_kind<kGated, SE_IDENTITY>(spec, gate, up);
  }
}

}  // namespace sparse_experts::cuda
