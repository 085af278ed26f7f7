// One MoE block as a sequence of launches on one stream, without a wait or a read-back in between:
// whatever depends on the tokens travels through device memory, so the same calls can be recorded
// into a graph.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/layer/forward_plan.h"
#include "cuda/layer/weight_maps.h"

namespace sparse_experts::cuda {

class Device;

// Where a call's arrays lie on the device. Strides in elements.
struct ForwardArrays {
  const void* hidden = nullptr;  // [T, H]
  int32_t hidden_dtype = SE_F32;
  int64_t hidden_stride = 0;
  const void* router_input = nullptr;  // [T, H]; hidden where the call has none
  int32_t router_input_dtype = SE_F32;
  int64_t router_input_stride = 0;
  const int32_t* token_ids = nullptr;
  const uint8_t* row_top_k = nullptr;
  const double* row_top_p = nullptr;
  const int32_t* sequence_lengths = nullptr;
  int32_t* topk_ids = nullptr;    // [T, K]
  float* topk_weights = nullptr;  // [T, K]
  uint8_t* non_finite = nullptr;  // [T]
  void* output = nullptr;         // [T, H] of hidden's dtype
  int64_t output_stride = 0;
};

struct ForwardQueue {
  Device& device;
  const SeMoeLayer& layer;
  const SeLayerOptions& options;
  const void* const* present;  // [num real experts]: null entries are not here
  const LayerMaps& maps;
  cudaStream_t stream;
  const ForwardPlan& plan;
  char* workspace;
  bool is_recorded;  // into a graph: launches are not counted
  // Whether the last thing on the stream is a kernel of this forward, which the next one may overtake.
  mutable bool follows_kernel = false;
};

// Whether somebody has asked for the call to stop.
inline bool is_cancelled(const SeForwardArgs& args) {
  return args.cancel != nullptr && __atomic_load_n(args.cancel, __ATOMIC_RELAXED) != 0;
}

// Queues the routing of all tokens, or what a replayed one needs. args gives scalars only.
Status queue_routing(const ForwardQueue& queue, const SeForwardArgs& args,
                     const ForwardArrays& arrays);
// Queues routing (unless args.replay) and every wave. args gives scalars only. SE_CANCELLED when
// args.cancel was raised before a wave: what is queued still runs.
Status queue_forward(const ForwardQueue& queue, const SeForwardArgs& args,
                     const ForwardArrays& arrays);

}  // namespace sparse_experts::cuda
