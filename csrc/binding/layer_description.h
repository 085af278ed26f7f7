// What createLayer is told, as plain values: sizes, routing rule, activations, and views of the
// small tensors.
#pragma once

#include <array>
#include <string>

#include "binding/arguments.h"
#include "binding/napi_setup.h"

namespace sparse_experts::binding {

// Small tensors of a block, in the order of kVectorNames.
enum VectorRole {
  kRouterWeight,
  kRouterBias,
  kSelectionBias,
  kPerExpertScale,
  kRouterInputScale,
  kHashTable,
  kSharedGate,
  kOutputBias,
  kGateBias,
  kUpBias,
  kDownBias,
  kSharedGateBias,
  kSharedUpBias,
  kSharedDownBias,
  kNumVectors
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
  bool gate_up_interleaved = false;
  int32_t num_threads = 0;
  SeLayerOptions options = {};
  std::array<ArrayView, kNumVectors> vectors;  // borrowed from JavaScript; length 0: absent

  int64_t expert_width() const { return latent_size > 0 ? latent_size : hidden_size; }
};

// Reads and checks a NativeLayerDescription. The views stay valid until JavaScript runs again.
LayerDescription parse_layer_description(const Napi::Value& value);
// Reads and checks a ResolvedMoeConfig alone: no device, no vectors.
LayerDescription parse_layer_config(const Napi::Object& config, int32_t dtype);

// The block without memory: pointers of what it has are not null, and lead nowhere. For sizes and
// descriptions.
SeMoeLayer layer_without_memory(const LayerDescription& description);

// Fields of a ResolvedRouting; the pointers stay null.
SeRouting parse_routing(const Napi::Object& config);
// 'activation', 'gated', 'swigluAlpha', 'swigluUpOffset' and the limit under `limit_name`.
SeActivationSpec parse_activation(const Napi::Object& config, const char* limit_name);
// Every id of a hash table must name a router output.
void check_hash_table(const ArrayView& table, const SeRouting& routing);

}  // namespace sparse_experts::binding
