#include "binding/cache_policy.h"

#include <memory>

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/cache_policy.h"

namespace sparse_experts::binding {
namespace {

constexpr int64_t kMostPools = 65536;

CacheShape parse_shape(const Napi::Value& value) {
  const Napi::Object object = object_argument(value, "shape");
  CacheShape shape;
  shape.rule = static_cast<EvictionRule>(
      choice_property(object, "rule",
                      {{"lru", static_cast<int32_t>(EvictionRule::kLru)},
                       {"lfu", static_cast<int32_t>(EvictionRule::kLfu)},
                       {"lfru", static_cast<int32_t>(EvictionRule::kLfru)},
                       {"static", static_cast<int32_t>(EvictionRule::kStatic)}}));
  const Napi::Array pools = array_argument(object.Get("poolSlots"), "poolSlots");
  for (uint32_t i = 0; i < pools.Length(); ++i)
    shape.pool_slots.push_back(
        static_cast<int32_t>(integer_argument(pools.Get(i), "poolSlots", 1, kMaxCount - 1)));
  const Napi::Array layers = array_argument(object.Get("layers"), "layers");
  for (uint32_t i = 0; i < layers.Length(); ++i) {
    const Napi::Object layer = object_argument(layers.Get(i), "layers");
    shape.layers.push_back(
        {static_cast<int32_t>(integer_property(layer, "numExperts", 1, kMaxCount - 1)),
         static_cast<int32_t>(integer_property(layer, "pool", 0, kMostPools))});
  }
  return shape;
}

// (layers [C], offsets [C + 1], experts [N], slots [N], hits [N], evicted [N, 2] or null): call c needs
// the experts from offsets[c] to offsets[c + 1] of layers[c].
Napi::Value plan_calls(const Napi::CallbackInfo& info, CachePolicy& policy) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const ArrayView layers = array_view_any_length(info[0], "layers", napi_int32_array);
    const auto num_calls = static_cast<int64_t>(layers.length);
    const ArrayView offsets = array_view(info[1], "offsets", napi_int32_array, num_calls + 1);
    const ArrayView experts = array_view_any_length(info[2], "experts", napi_int32_array);
    const auto num_experts = static_cast<int64_t>(experts.length);
    const ArrayView slots = array_view(info[3], "slots", napi_int32_array, num_experts);
    const ArrayView hits = array_view(info[4], "hits", napi_uint8_array, num_experts);
    int32_t* evicted = nullptr;
    if (!is_absent(info[5]))
      evicted = array_view(info[5], "evicted", napi_int32_array, 2 * num_experts).as<int32_t>();

    int64_t begin = 0;
    for (int64_t call = 0; call < num_calls; ++call) {
      const int64_t end = offsets.as<int32_t>()[call + 1];
      if (offsets.as<int32_t>()[call] != begin || end < begin || end > num_experts)
        fail_argument("offsets must begin at 0 and rise to the number of experts at most");
      const auto& places =
          policy.plan(layers.as<int32_t>()[call], experts.as<int32_t>() + begin, end - begin);
      for (const ExpertPlace& place : places) {
        slots.as<int32_t>()[begin] = place.passes ? kNone : place.slot;
        hits.as<uint8_t>()[begin] = place.is_hit ? 1 : 0;
        if (evicted != nullptr) {
          evicted[2 * begin] = place.evicted_layer;
          evicted[2 * begin + 1] = place.evicted_expert;
        }
        ++begin;
      }
    }
    return info.Env().Undefined();
  });
}

// (shape)
Napi::Value create_cache_policy(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const auto policy = std::make_shared<CachePolicy>(parse_shape(info[0]));
    const auto expert_argument = [](const Napi::CallbackInfo& call, int index) {
      return static_cast<int32_t>(integer_argument(call[index], "expert", 0, kMaxCount - 1));
    };
    Napi::Object object = Napi::Object::New(env);
    object.Set("planCalls", Napi::Function::New(env, [policy](const Napi::CallbackInfo& call) {
                 return plan_calls(call, *policy);
               }));
    object.Set("warm", Napi::Function::New(env, [=](const Napi::CallbackInfo& call) {
                 return guarded(call.Env(), [&]() -> Napi::Value {
                   const int32_t slot =
                       policy->warm(expert_argument(call, 0), expert_argument(call, 1));
                   return Napi::Number::New(call.Env(), slot);
                 });
               }));
    object.Set("forget", Napi::Function::New(env, [=](const Napi::CallbackInfo& call) {
                 return guarded(call.Env(), [&]() -> Napi::Value {
                   policy->forget(expert_argument(call, 0), expert_argument(call, 1));
                   return call.Env().Undefined();
                 });
               }));
    return object;
  });
}

}  // namespace

void define_cache_policy(Napi::Env env, Napi::Object exports) {
  exports.Set("createCachePolicy",
              Napi::Function::New<create_cache_policy>(env, "createCachePolicy"));
}

}  // namespace sparse_experts::binding
