#include "binding/layer_arguments.h"

#include "binding/errors.h"
#include "binding/matrix_formats.h"
#include "binding/moe_layer_wrap.h"

namespace sparse_experts::binding {
namespace {

// Expert tables are walked on the JS thread; no published model comes near this.
constexpr int64_t kMaxExperts = 1 << 20;

// Elements that each vector must have; 0: the block has no use for it and it must be absent.
std::array<int64_t, kNumVectors> vector_lengths(const LayerDescription& layer) {
  const int64_t outputs = layer.routing.num_experts;
  const int64_t hidden = layer.hidden_size;
  const int64_t shared = layer.shared_intermediate_size;
  const bool gated = layer.activation.gated != 0;
  std::array<int64_t, kNumVectors> lengths = {};
  lengths[kRouterWeight] = multiply(outputs, hidden, "routerWeight");
  lengths[kRouterBias] = outputs;
  lengths[kSelectionBias] = outputs;
  lengths[kPerExpertScale] = outputs;
  lengths[kRouterInputScale] = hidden;
  lengths[kLatentNorm] = layer.latent_norm_epsilon > 0 ? layer.latent_size : 0;
  lengths[kOutputBias] = hidden;
  lengths[kUpBias] = multiply(layer.num_experts, layer.intermediate_size, "upBias");
  lengths[kGateBias] = gated ? lengths[kUpBias] : 0;
  lengths[kDownBias] = multiply(layer.num_experts, layer.expert_width(), "downBias");
  if (shared > 0) {
    const bool has_gate = layer.shared_gate_mode != SE_SHARED_PLAIN;
    lengths[kSharedGate] = has_gate ? hidden : 0;
    lengths[kSharedLogitBias] = has_gate ? 1 : 0;
    lengths[kSharedUpBias] = shared;
    lengths[kSharedGateBias] = layer.shared_activation.gated != 0 ? shared : 0;
    lengths[kSharedDownBias] = hidden;
  }
  return lengths;
}

bool is_required(int role, const LayerDescription& layer) {
  switch (role) {
    case kRouterWeight:
      return true;
    case kHashTable:
      return layer.routing.hash_routed != 0;
    case kSharedGate:
      return layer.shared_intermediate_size > 0 && layer.shared_gate_mode != SE_SHARED_PLAIN;
    case kLatentNorm:
      return layer.latent_norm_epsilon > 0;
    default:
      return false;
  }
}

void take_vectors(const std::array<Napi::Value, kNumVectors>& values, LayerDescription* layer) {
  std::array<int64_t, kNumVectors> lengths = vector_lengths(*layer);
  for (int role = 0; role < kNumVectors; ++role) {
    const char* name = kVectorNames[role];
    if (is_absent(values[role])) {
      if (is_required(role, *layer)) fail_argument(std::string("Expected ") + name);
      continue;
    }
    if (role == kHashTable) {
      if (layer->routing.hash_routed == 0) continue;
      const ArrayView table = array_view_any_length(values[role], name, napi_int32_array);
      layer->routing.vocab_size = static_cast<int64_t>(table.length) / layer->routing.top_k;
      layer->vectors[role] = {table.data, table.length};
      continue;
    }
    if (lengths[role] == 0) fail_argument(std::string(name) + " has no place in this block");
    const ArrayView view = array_view(values[role], name, napi_float32_array, lengths[role]);
    layer->vectors[role] = {view.data, view.length};
  }
}

// Of the layer that a property names; null: it names none. The layer stays with whoever named it.
const ExpertCache* other_cache(const Napi::Object& object, const char* name) {
  const Napi::Value layer = object.Get(name);
  if (is_absent(layer)) return nullptr;
  const ExpertCache* const cache = MoeLayerWrap::layer_of(layer)->cache();
  if (cache == nullptr) fail_argument("A cache names a layer that has none");
  return cache;
}

}  // namespace

CacheOptions parse_cache(const Napi::Value& value) {
  constexpr int64_t kMostBytes = (int64_t{1} << 53) - 1;
  CacheOptions cache;
  if (is_absent(value)) return cache;
  const Napi::Object object = object_argument(value, "cache");
  cache.host_bytes = static_cast<uint64_t>(integer_property(object, "hostBytes", 0, kMostBytes));
  cache.device_bytes =
      static_cast<uint64_t>(integer_property(object, "deviceBytes", 0, kMostBytes));
  if (!cache.is_on()) fail_argument("A cache needs memory");
  cache.num_readers = static_cast<int32_t>(integer_property(object, "readers", 1, 64));
  cache.rule = static_cast<EvictionRule>(
      choice_property(object, "policy",
                      {{"lru", static_cast<int32_t>(EvictionRule::kLru)},
                       {"lfu", static_cast<int32_t>(EvictionRule::kLfu)},
                       {"lfru", static_cast<int32_t>(EvictionRule::kLfru)},
                       {"static", static_cast<int32_t>(EvictionRule::kStatic)}}));
  cache.direct = boolean_property(object, "directReads") ? DirectReads::kAuto : DirectReads::kOff;
  cache.prefetches = boolean_property(object, "prefetches");
  cache.prefetch_bytes =
      static_cast<uint64_t>(integer_property(object, "prefetchBytes", 0, kMostBytes));
  if (const ExpertCache* const shared = other_cache(object, "sharedWith"))
    cache.pool = shared->pool();
  if (const ExpertCache* const before = other_cache(object, "behind")) {
    cache.sequence = before->sequence();
    if (cache.sequence == nullptr) fail_argument("Nothing is read ahead for the layer before");
  }
  return cache;
}

SeRouting parse_routing(const Napi::Object& config) {
  SeRouting routing = {};
  routing.scoring = choice_property(config, "scoringFunc", kScoringNames);
  routing.hash_routed = boolean_property(config, "hashRouted") ? 1 : 0;
  const int64_t num_experts = integer_property(config, "numExperts", 1, kMaxExperts);
  routing.num_identity_experts = integer_property(config, "numIdentityExperts", 0, kMaxExperts);
  routing.num_experts = num_experts + routing.num_identity_experts;
  routing.top_k = integer_property(config, "topK", 1, kMaxExperts);
  routing.num_expert_groups = integer_property(config, "numExpertGroups", 1, kMaxExperts);
  routing.topk_group = integer_property(config, "topkGroup", 1, kMaxExperts);
  routing.group_score = choice_property(config, "groupScore", kGroupScoreNames);
  routing.normalization = choice_property(config, "normalization", kNormalizationNames);
  routing.norm_value = number_property(config, "normValue");
  routing.scaling_factor = number_property(config, "routedScalingFactor");
  routing.logit_softcap = number_property(config, "logitSoftcap");
  routing.sparsemixer_epsilon = number_property(config, "sparsemixerEpsilon");

  const Napi::Value capacity_value = config.Get("capacity");
  if (is_absent(capacity_value)) return routing;
  const Napi::Object capacity = object_argument(capacity_value, "capacity");
  routing.capacity = choice_property(capacity, "kind", kCapacityNames);
  routing.expert_capacity = integer_property(capacity, "expertCapacity", -kMaxCount, kMaxCount);
  routing.capacity_token_fraction = number_property(capacity, "tokenFraction");
  routing.normalize_before_dropping = boolean_property(capacity, "normalizeBeforeDropping") ? 1 : 0;
  routing.batch_prioritized = boolean_property(capacity, "batchPrioritized") ? 1 : 0;
  return routing;
}

SeActivationSpec parse_activation(const Napi::Object& config, const char* limit_name,
                                  const char* gate_limit_name) {
  SeActivationSpec spec = {};
  spec.kind = choice_property(config, "activation", kActivationNames);
  spec.gated = boolean_property(config, "gated") ? 1 : 0;
  spec.alpha = static_cast<float>(number_property(config, "swigluAlpha"));
  spec.up_offset = static_cast<float>(number_property(config, "swigluUpOffset"));
  spec.limit = static_cast<float>(number_property(config, limit_name));
  spec.gate_limit = static_cast<float>(number_property(config, gate_limit_name));
  return spec;
}

LayerDescription parse_layer_config(const Napi::Object& config, int32_t dtype) {
  LayerDescription layer;
  layer.dtype = dtype;
  layer.routing = parse_routing(config);
  layer.num_experts = layer.routing.num_experts - layer.routing.num_identity_experts;
  layer.hidden_size = integer_property(config, "hiddenSize", 1, kMaxCount);
  layer.intermediate_size = integer_property(config, "intermediateSize", 1, kMaxCount);
  layer.latent_size = integer_property(config, "latentSize", 0, kMaxCount);
  layer.shared_intermediate_size = integer_property(config, "sharedIntermediateSize", 0, kMaxCount);
  if (integer_property(config, "numSharedExperts", 0, kMaxCount) == 0) {
    layer.shared_intermediate_size = 0;
  }
  layer.latent_norm_epsilon = number_property(config, "latentNormEpsilon");
  layer.activation = parse_activation(config, "swigluLimit", "swigluGateLimit");
  layer.shared_activation = parse_activation(config, "sharedSwigluLimit", "sharedSwigluGateLimit");
  layer.shared_gate_mode = choice_property(config, "sharedGate", kSharedGateNames);
  layer.weight_on_input = choice_property(config, "weightOn", {{"output", 0}, {"input", 1}});
  layer.router_norm_epsilon = number_property(config, "routerNormEpsilon");
  return layer;
}

SeLayerOptions parse_layer_options(const Napi::Object& object) {
  SeLayerOptions options = {};
  options.batch_invariant = boolean_property(object, "batchInvariant") ? 1 : 0;
  options.int8_activations = boolean_property(object, "int8Activations") ? 1 : 0;
  return options;
}

LayerDescription parse_layer_description(const Napi::Value& value) {
  const Napi::Object object = object_argument(value, "description");
  const int32_t dtype = float_dtype_argument(object.Get("dtype"), "dtype");
  LayerDescription layer =
      parse_layer_config(object_argument(object.Get("config"), "config"), dtype);
  layer.device = text_argument(object.Get("device"), "device");
  layer.gate_up_interleaved = boolean_property(object, "gateUpInterleaved");
  layer.num_threads = static_cast<int32_t>(integer_property(object, "threads", 0, kMaxThreads));
  layer.options = parse_layer_options(object);
  layer.max_joint_rows = integer_property(object, "maxJointTokens", 0, kMaxCount);
  layer.cache = parse_cache(object.Get("cache"));
  take_held_formats(object, &layer);
  const Napi::Object vectors = object_argument(object.Get("vectors"), "vectors");
  std::array<Napi::Value, kNumVectors> values;
  for (int role = 0; role < kNumVectors; ++role) values[role] = vectors.Get(kVectorNames[role]);
  // From here on no property is read: the pointers stay valid.
  take_vectors(values, &layer);
  return layer;
}

}  // namespace sparse_experts::binding
