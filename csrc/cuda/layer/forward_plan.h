// How a forward is cut into waves of tokens, where each intermediate lies in the workspace, and
// which configuration each matmul runs. Pure functions of the layer's sizes and the device's
// limits.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "cuda/ops/dispatch.h"
#include "cuda/ops/expert_matmul.h"
#include "cuda/ops/limits.h"
#include "cuda/runtime/plan_limits.h"

namespace sparse_experts::cuda {

// Intermediates of one wave of T tokens, K = top_k slots each; D = width of the experts' input, I
// their intermediate size, H = hidden size. "act" = the arithmetic dtype, that of the experts.
// Offsets in bytes, 256-byte aligned.
struct ForwardPlan {
  static constexpr uint64_t kNone = ~uint64_t{0};

  int32_t dtype = SE_F32;  // act
  int64_t width = 0;       // D
  int64_t intermediate = 0;
  int64_t shared_intermediate = 0;
  // The shared expert runs in the launches of the routed ones: same dtype and activation.
  bool joint_shared = false;
  int64_t route_tokens = 0;  // rows per chunk of router logits
  int64_t wave_tokens = 0;
  int32_t num_splits = 0;  // of the router logits

  // Routing of all tokens. Chunks and waves use the same space one after the other.
  uint64_t slot_scores = kNone;       // [num_tokens, K] f64, SE_CAPACITY_BATCH
  uint64_t best_scores = kNone;       // [num_tokens] f64, likewise
  uint64_t capacity_scratch = kNone;  // whole batch
  uint64_t partials = kNone;          // [num_splits, route_tokens, E] f32
  uint64_t router_rows = kNone;       // [route_tokens, H] f32
  // One wave.
  uint64_t hidden = kNone;               // [T, H] act
  uint64_t shared_input = kNone;         // [T, H] of the shared expert's dtype where that differs
  uint64_t latent = kNone;               // [T, D] act
  uint64_t scaled = kNone;               // [T * K, D] act, sorted order: weighted inputs
  uint64_t expert_hidden = kNone;        // [T * K, I] act, sorted order
  uint64_t expert_output = kNone;        // [T * K, D] f32, row = slot
  uint64_t shared_hidden = kNone;        // [T, shared_intermediate]
  uint64_t shared_output = kNone;        // [T, H] f32
  uint64_t shared_coefficients = kNone;  // [T] f32
  uint64_t latent_sum = kNone;           // [T, D] act
  uint64_t latent_rows = kNone;          // [T, D] f32, before a norm; none where act is f32
  uint64_t projected = kNone;            // [T, H] f32
  uint64_t expert_offsets = kNone;       // [num real experts + 1] i32
  uint64_t sorted_slots = kNone;         // [T * K] i32
  uint64_t tiles[kMaxTileKinds] = {kNone, kNone};  // token tiles of up to two sizes
  uint64_t num_tiles = kNone;                      // [kMaxTileKinds] i32
  uint64_t dispatch_scratch = kNone;
  uint64_t total_bytes = 0;
};

ForwardPlan plan_forward(const SeMoeLayer& layer, const PlanLimits& limits, int64_t num_tokens);

// Which matmuls read weights that tensor maps describe and rows of x at multiples of 16 bytes
// (MatmulShape::bulk_ready).
struct BulkReady {
  bool gate_up = false;
  bool down = false;
  bool shared_gate_up = false;
  bool shared_down = false;
};

// Configurations for one wave of num_tokens; tiles and grids follow the tokens, layouts do not.
struct WaveConfigs {
  MatmulConfig gate_up;  // routed experts, and the shared one where it is joint
  MatmulConfig down;
  MatmulConfig shared_gate_up;  // a shared expert that is not joint
  MatmulConfig shared_down;
  MatmulConfig latent_down;
  MatmulConfig latent_up;
};
WaveConfigs choose_wave_configs(const SeMoeLayer& layer, const SeLayerOptions& options,
                                const ForwardPlan& plan, const DeviceLimits& limits,
                                const BulkReady& ready, int64_t num_tokens);

}  // namespace sparse_experts::cuda
