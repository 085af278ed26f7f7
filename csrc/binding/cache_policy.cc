#include "binding/cache_policy.h"

#include <memory>
#include <vector>

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/cache_policy.h"
#include "engine/expert_affinity.h"
#include "engine/host_policy.h"

namespace sparse_experts::binding {
namespace {

constexpr int64_t kMostPools = 65536;

// Where a call finds an expert.
enum Found : uint8_t { kNowhere, kInSlot, kInHost };

// A cache that does not exist.
struct SimulatedCache {
  explicit SimulatedCache(const CacheShape& of) : shape(of), policy(of), evicted(of.layers.size()) {
    for (const CacheShape::Layer& layer : shape.layers) affinity.add_layer(layer.num_experts);
  }

  // What the engine does in a call, once it has asked for what was missing.
  void prefetch(int32_t layer, const int32_t* experts, int64_t count) {
    if (most_prefetched.empty() || count == 0) return;
    const auto own = static_cast<size_t>(layer);
    if (count > shape.pool_slots[static_cast<size_t>(shape.layers[own].pool)])
      return affinity.pause();
    const std::vector<int32_t>& expected = affinity.saw(layer, {experts, experts + count});
    if (expected.empty()) return;
    for (const ExpertPlace& place :
         policy.prefetch(layer + 1, expected, most_prefetched[own + 1])) {
      if (place.evicted_layer != kNone) ++evicted[static_cast<size_t>(place.evicted_layer)];
    }
  }

  // Where it finds each of them: what it misses is looked for in memory of the host.
  const std::vector<uint8_t>& find(int32_t layer, const std::vector<ExpertPlace>& places) {
    found.assign(places.size(), kInSlot);
    misses.clear();
    for (size_t i = 0; i < places.size(); ++i) {
      if (places[i].is_hit) continue;
      found[i] = kNowhere;
      misses.push_back({places[i].expert, places[i].passes});
    }
    if (host.empty() || misses.empty()) return found;
    auto place = host[static_cast<size_t>(layer)].plan(misses).begin();
    for (uint8_t& one : found) {
      if (one == kNowhere && (place++)->is_hit) one = kInHost;
    }
    return found;
  }

  const CacheShape shape;
  CachePolicy policy;
  std::vector<HostPolicy> host;  // of each layer; none: there is no memory behind the slots
  ExpertAffinity affinity;
  std::vector<int32_t> most_prefetched;  // of each layer; none: nothing is read ahead
  std::vector<uint64_t> evicted;         // of each layer, by what was read ahead
  std::vector<uint8_t> found;
  std::vector<HostPolicy::Miss> misses;
};

CacheShape parse_shape(const Napi::Object& object) {
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

// (layers [C], offsets [C + 1], experts [N], slots [N], hits [N] of Found, evicted [N, 2] or null): call c
// needs the experts from offsets[c] to offsets[c + 1] of layers[c].
Napi::Value plan_calls(const Napi::CallbackInfo& info, SimulatedCache& cache) {
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
      const int32_t layer = layers.as<int32_t>()[call];
      const int32_t* needed = experts.as<int32_t>() + begin;
      const int64_t count = end - begin;
      const auto& places = cache.policy.plan(layer, needed, count);
      auto found = cache.find(layer, places).begin();
      for (const ExpertPlace& place : places) {
        slots.as<int32_t>()[begin] = place.passes ? kNone : place.slot;
        hits.as<uint8_t>()[begin] = *found++;
        if (evicted != nullptr) {
          evicted[2 * begin] = place.evicted_layer;
          evicted[2 * begin + 1] = place.evicted_expert;
        }
        ++begin;
      }
      cache.prefetch(layer, needed, count);
    }
    return info.Env().Undefined();
  });
}

Napi::Object prefetch_counts(Napi::Env env, const SimulatedCache& cache, int32_t layer) {
  const PrefetchCounts& counts = cache.policy.prefetch_counts(layer);
  Napi::Object object = Napi::Object::New(env);
  const auto set = [&](const char* name, uint64_t value) {
    object.Set(name, Napi::Number::New(env, static_cast<double>(value)));
  };
  set("prefetched", counts.given);
  set("used", counts.used);
  set("wasted", counts.wasted);
  set("evicted", cache.evicted[static_cast<size_t>(layer)]);
  return object;
}

// (shape)
Napi::Value create_cache_policy(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const Napi::Object shape = object_argument(info[0], "shape");
    const auto cache = std::make_shared<SimulatedCache>(parse_shape(shape));
    if (!is_absent(shape.Get("mostPrefetched"))) {
      const Napi::Array most = array_argument(shape.Get("mostPrefetched"), "mostPrefetched");
      if (most.Length() != cache->shape.layers.size())
        fail_argument("mostPrefetched needs a number for each layer");
      for (uint32_t i = 0; i < most.Length(); ++i)
        cache->most_prefetched.push_back(static_cast<int32_t>(
            integer_argument(most.Get(i), "mostPrefetched", 0, kMaxCount - 1)));
    }
    if (!is_absent(shape.Get("hostBlocks"))) {
      const Napi::Array blocks = array_argument(shape.Get("hostBlocks"), "hostBlocks");
      if (blocks.Length() != cache->shape.layers.size())
        fail_argument("hostBlocks needs a number for each layer");
      for (uint32_t i = 0; i < blocks.Length(); ++i)
        cache->host.emplace_back(
            cache->shape.rule,
            static_cast<int32_t>(integer_argument(blocks.Get(i), "hostBlocks", 0, kMaxCount - 1)),
            cache->shape.layers[i].num_experts);
    }
    const auto expert_argument = [](const Napi::CallbackInfo& call, int index) {
      return static_cast<int32_t>(integer_argument(call[index], "expert", 0, kMaxCount - 1));
    };
    Napi::Object object = Napi::Object::New(env);
    object.Set("planCalls", Napi::Function::New(env, [cache](const Napi::CallbackInfo& call) {
                 return plan_calls(call, *cache);
               }));
    object.Set("prefetchCounts", Napi::Function::New(env, [=](const Napi::CallbackInfo& call) {
                 return guarded(call.Env(), [&]() -> Napi::Value {
                   return prefetch_counts(call.Env(), *cache, expert_argument(call, 0));
                 });
               }));
    object.Set("warm", Napi::Function::New(env, [=](const Napi::CallbackInfo& call) {
                 return guarded(call.Env(), [&]() -> Napi::Value {
                   const int32_t slot =
                       cache->policy.warm(expert_argument(call, 0), expert_argument(call, 1));
                   return Napi::Number::New(call.Env(), slot);
                 });
               }));
    object.Set("forget", Napi::Function::New(env, [=](const Napi::CallbackInfo& call) {
                 return guarded(call.Env(), [&]() -> Napi::Value {
                   cache->policy.forget(expert_argument(call, 0), expert_argument(call, 1));
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
