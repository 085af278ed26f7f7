// What a layer is made from, as plain values: sizes, routing rule, activations, and views of the
// small tensors.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "core/vectors.h"
#include "engine/cache_plan.h"
#include "engine/matrix_slot.h"

namespace sparse_experts::engine {

// A small tensor in host memory: f32, and int32 for kHashTable. length 0: absent.
struct HostVector {
  const void* data = nullptr;
  uint64_t length = 0;
};

// A matrix that is not held in its dtype's own values.
struct HeldMatrix {
  MatrixRole role = MatrixRole::kExpert;
  int64_t expert = 0;
  MatrixKind kind = MatrixKind::kDown;
  size_t format = 0;  // index into LayerDescription.formats
};

struct LayerDescription {
  std::string device;
  int32_t dtype = SE_F32;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t latent_size = 0;               // 0: none
  int64_t shared_intermediate_size = 0;  // 0: none
  int64_t num_experts = 0;               // that hold weights
  SeRouting routing = {};                // its pointers are set by the layer
  SeActivationSpec activation = {};
  SeActivationSpec shared_activation = {};
  int32_t shared_gate_mode = SE_SHARED_PLAIN;
  int32_t weight_on_input = 0;
  double router_norm_epsilon = 0;
  double latent_norm_epsilon = 0;  // 0: the latent sum is not normalised
  bool gate_up_interleaved = false;
  int32_t num_threads = 0;
  SeLayerOptions options = {};
  CacheOptions cache = {};
  int64_t max_joint_rows = 0;  // of calls that run as one; 0: each runs alone
  // [num_experts]: 1 where this rank has the expert, whose matrices lie in memory. Empty: all experts
  // are here.
  std::vector<uint8_t> owned;
  std::vector<SeMatrixFormat>
      formats;  // 255 at most; that the backend holds, or the layer is refused
  std::vector<HeldMatrix> held;
  std::array<HostVector, kNumVectors> vectors;  // borrowed from the caller

  int64_t expert_width() const { return latent_size > 0 ? latent_size : hidden_size; }
};

// The block without memory: pointers of what it has are not null, and lead nowhere; formats are the
// description's. For sizes and descriptions.
SeMoeLayer layer_without_memory(const LayerDescription& description);

}  // namespace sparse_experts::engine
