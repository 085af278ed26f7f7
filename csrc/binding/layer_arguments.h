// Reading what createLayer is told: sizes, routing rule, activations and small tensors.
#pragma once

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/layer_description.h"

namespace sparse_experts::binding {

// Participants in a forward that a layer may be given.
constexpr int64_t kMaxThreads = 4096;

// Reads a NativeLayerDescription: kinds of values, sizes that are counted with, lengths of arrays.
// What a block may be is the backend's to check, and lib's to say. The views stay valid until JavaScript runs again.
LayerDescription parse_layer_description(const Napi::Value& value);
// Reads a NativeForwardOptions, which a description has too.
SeLayerOptions parse_layer_options(const Napi::Object& object);
// Reads a NativeCacheOptions; absent or null: all experts stay in memory.
CacheOptions parse_cache(const Napi::Value& value);
// Reads a ResolvedMoeConfig alone: no device, no vectors.
LayerDescription parse_layer_config(const Napi::Object& config, int32_t dtype);

// Fields of a ResolvedRouting; the pointers stay null.
SeRouting parse_routing(const Napi::Object& config);
// 'activation', 'gated', 'swigluAlpha', 'swigluUpOffset' and the limit under `limit_name`.
SeActivationSpec parse_activation(const Napi::Object& config, const char* limit_name,
                                  const char* gate_limit_name);

}  // namespace sparse_experts::binding
