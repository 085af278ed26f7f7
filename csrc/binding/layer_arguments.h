// Reading what createLayer is told: sizes, routing rule, activations and small tensors.
#pragma once

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/layer_description.h"

namespace sparse_experts::binding {

// Reads and checks a NativeLayerDescription. The views stay valid until JavaScript runs again.
LayerDescription parse_layer_description(const Napi::Value& value);
// Reads and checks a ResolvedMoeConfig alone: no device, no vectors.
LayerDescription parse_layer_config(const Napi::Object& config, int32_t dtype);

// Fields of a ResolvedRouting; the pointers stay null.
SeRouting parse_routing(const Napi::Object& config);
// 'activation', 'gated', 'swigluAlpha', 'swigluUpOffset' and the limit under `limit_name`.
SeActivationSpec parse_activation(const Napi::Object& config, const char* limit_name);
// Every id of a hash table must name a router output.
void check_hash_table(const ArrayView& table, const SeRouting& routing);

}  // namespace sparse_experts::binding
