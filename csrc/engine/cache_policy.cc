#include "engine/cache_policy.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/failure.h"

namespace sparse_experts::engine {

CachePolicy::CachePolicy(const CacheShape& shape) : rule_(shape.rule) {
  for (const int32_t slots : shape.pool_slots) {
    if (slots < 1) fail_argument("a pool of a cache needs at least one slot");
    Pool pool{slots, 0, {}, EvictionOrder(rule_, slots)};
    for (int32_t slot = 0; slot < slots; ++slot) pool.free.insert(pool.free.end(), slot);
    pools_.push_back(std::move(pool));
  }
  for (const CacheShape::Layer& layer : shape.layers) {
    if (layer.pool < 0 || layer.pool >= static_cast<int64_t>(pools_.size()))
      fail_argument("a layer of a cache names pool " + std::to_string(layer.pool) +
                    ", which there is not");
    if (layer.num_experts < 1) fail_argument("a layer of a cache needs at least one expert");
    layers_.push_back(
        {layer.pool, std::vector<Expert>(static_cast<size_t>(layer.num_experts)), 0, {}});
  }
}

const std::vector<ExpertPlace>& CachePolicy::plan(int32_t layer, const int32_t* experts,
                                                  int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    check(layer, experts[i]);
    if (i > 0 && experts[i] <= experts[i - 1])
      fail_argument("the experts of a call must be distinct and rise");
  }
  places_.clear();
  if (count == 0) return places_;

  Pool& pool = pool_of(layer);
  ++pool.now;
  if (count <= pool.num_slots) {
    plan_narrow(layer, experts, count);
  } else {
    plan_wide(layer, experts, count);
  }
  return places_;
}

void CachePolicy::plan_narrow(int32_t layer, const int32_t* experts, int64_t count) {
  bool is_full = false;
  layers_[static_cast<size_t>(layer)].last = pool_of(layer).now;
  for (int64_t i = 0; i < count; ++i) is_full = use(layer, experts[i]) || is_full;
  if (is_full) halve_uses(layers_[static_cast<size_t>(layer)].pool);
  for (int64_t i = 0; i < count; ++i) {
    ExpertPlace place;
    place.expert = experts[i];
    place.slot = at(layer, experts[i]).slot;
    place.is_hit = place.slot != kNone;
    if (!place.is_hit) place.slot = take_free_slot(layer, experts[i]);
    if (place.slot == kNone && rule_ != EvictionRule::kStatic) {
      place.slot = evict_first(pool_of(layer), &place);
      hold(layer, experts[i], place.slot);
    }
    place.passes = place.slot == kNone;
    places_.push_back(place);
  }
}

void CachePolicy::plan_wide(int32_t layer, const int32_t* experts, int64_t count) {
  Pool& pool = pool_of(layer);
  const int64_t misses = std::count_if(
      experts, experts + count, [&](int32_t expert) { return at(layer, expert).slot == kNone; });
  const int64_t most_ring = rule_ == EvictionRule::kStatic ? 0 : kMostRing;
  const auto num_ring = static_cast<size_t>(std::min({most_ring, misses, int64_t{pool.num_slots}}));
  const size_t num_kept_free = std::min(num_ring, pool.free.size());
  std::vector<size_t> passing;
  for (int64_t i = 0; i < count; ++i) {
    ExpertPlace place;
    place.expert = experts[i];
    place.slot = at(layer, experts[i]).slot;
    place.is_hit = place.slot != kNone;
    meet(layer, experts[i]);
    if (!place.is_hit && pool.free.size() > num_kept_free)
      place.slot = take_free_slot(layer, experts[i]);
    place.passes = place.slot == kNone;
    if (place.passes) passing.push_back(places_.size());
    places_.push_back(place);
  }
  if (num_ring == 0) return;
  // A wide call has more misses than there are free slots: the ring is all that is free now.
  std::vector<int32_t> ring(pool.free.begin(), pool.free.end());
  while (ring.size() < num_ring) ring.push_back(evict_first(pool, &places_[passing[ring.size()]]));
  for (size_t i = 0; i < passing.size(); ++i) {
    ExpertPlace& place = places_[passing[i]];
    place.slot = ring[i % num_ring];
    place.passes = i + num_ring < passing.size();
    if (!place.passes) hold(layer, place.expert, place.slot);
  }
}

int32_t CachePolicy::warm(int32_t layer, int32_t expert) {
  check(layer, expert);
  const int32_t slot = at(layer, expert).slot;
  return slot != kNone ? slot : take_free_slot(layer, expert);
}

const std::vector<ExpertPlace>& CachePolicy::prefetch(int32_t layer,
                                                      const std::vector<int32_t>& experts,
                                                      int64_t most) {
  for (const int32_t expert : experts) check(layer, expert);
  places_.clear();
  Layer& own = layers_[static_cast<size_t>(layer)];
  std::vector<size_t> ranks(own.experts.size(), experts.size());
  std::vector<int32_t> wanted;
  for (size_t rank = 0; rank < experts.size(); ++rank) {
    const int32_t expert = experts[rank];
    ranks[static_cast<size_t>(expert)] = rank;
    if (at(layer, expert).slot == kNone && static_cast<int64_t>(wanted.size()) < most)
      wanted.push_back(expert);
  }
  Pool& pool = pool_of(layer);
  const std::vector<int32_t> leaving =
      wanted.size() > pool.free.size() ? least_expected(layer, ranks) : std::vector<int32_t>();
  size_t num_left = 0;
  for (const int32_t expert : wanted) {
    ExpertPlace place;
    place.expert = expert;
    if (pool.free.empty()) {
      if (rule_ == EvictionRule::kStatic || num_left == leaving.size()) break;
      const int32_t least = leaving[num_left++];
      if (ranks[static_cast<size_t>(least)] < ranks[static_cast<size_t>(expert)]) break;
      evict(at(layer, least).slot, held_as(layer, least), &place);
    }
    place.slot = take_free_slot(layer, expert);
    at(layer, expert).is_expected = true;
    places_.push_back(place);
  }
  own.prefetched.given += places_.size();
  return places_;
}

// The layer's experts that may leave for one that is expected, in that order.
std::vector<int32_t> CachePolicy::least_expected(int32_t layer,
                                                 const std::vector<size_t>& ranks) const {
  const Layer& own = layers_[static_cast<size_t>(layer)];
  std::vector<int32_t> experts;
  for (size_t e = 0; e < own.experts.size(); ++e) {
    const Expert& entry = own.experts[e];
    const bool is_recent = own.last > 0 && entry.last == own.last;
    if (entry.slot != kNone && !is_recent) experts.push_back(static_cast<int32_t>(e));
  }
  std::sort(experts.begin(), experts.end(), [&](int32_t a, int32_t b) {
    const auto left = static_cast<size_t>(a);
    const auto right = static_cast<size_t>(b);
    if (ranks[left] != ranks[right]) return ranks[left] > ranks[right];
    return std::pair(own.experts[left].last, a) < std::pair(own.experts[right].last, b);
  });
  return experts;
}

const PrefetchCounts& CachePolicy::prefetch_counts(int32_t layer) const {
  check(layer, 0);
  return layers_[static_cast<size_t>(layer)].prefetched;
}

void CachePolicy::forget(int32_t layer, int32_t expert) {
  check(layer, expert);
  Expert& entry = at(layer, expert);
  if (std::exchange(entry.is_expected, false))
    ++layers_[static_cast<size_t>(layer)].prefetched.dropped;
  if (entry.slot != kNone) release(layer, expert);
}

// The expert has a slot.
void CachePolicy::release(int32_t layer, int32_t expert) {
  Expert& entry = at(layer, expert);
  Pool& pool = pool_of(layer);
  pool.order.remove(entry.slot);
  pool.free.insert(entry.slot);
  entry.slot = kNone;
}

int32_t CachePolicy::slot_of(int32_t layer, int32_t expert) const {
  check(layer, expert);
  return layers_[static_cast<size_t>(layer)].experts[static_cast<size_t>(expert)].slot;
}

void CachePolicy::check(int32_t layer, int32_t expert) const {
  if (layer < 0 || layer >= static_cast<int64_t>(layers_.size()))
    fail_argument("the cache has no layer " + std::to_string(layer));
  const std::vector<Expert>& experts = layers_[static_cast<size_t>(layer)].experts;
  if (expert < 0 || expert >= static_cast<int64_t>(experts.size()))
    fail_argument("layer " + std::to_string(layer) + " of the cache has no expert " +
                  std::to_string(expert));
}

CachePolicy::Expert& CachePolicy::at(int32_t layer, int32_t expert) {
  return layers_[static_cast<size_t>(layer)].experts[static_cast<size_t>(expert)];
}

CachePolicy::Pool& CachePolicy::pool_of(int32_t layer) {
  return pools_[static_cast<size_t>(layers_[static_cast<size_t>(layer)].pool)];
}

EvictionOrder::Held CachePolicy::held_as(int32_t layer, int32_t expert) {
  const Expert& entry = at(layer, expert);
  return {entry.uses, entry.last, layer, expert};
}

// The slot is free.
void CachePolicy::hold(int32_t layer, int32_t expert, int32_t slot) {
  Pool& pool = pool_of(layer);
  pool.free.erase(slot);
  at(layer, expert).slot = slot;
  pool.order.add(slot, held_as(layer, expert));
}

int32_t CachePolicy::take_free_slot(int32_t layer, int32_t expert) {
  const std::set<int32_t>& free = pool_of(layer).free;
  if (free.empty()) return kNone;
  const int32_t slot = *free.begin();
  hold(layer, expert, slot);
  return slot;
}

// A call needs the expert.
void CachePolicy::meet(int32_t layer, int32_t expert) {
  if (std::exchange(at(layer, expert).is_expected, false))
    ++layers_[static_cast<size_t>(layer)].prefetched.used;
}

// Returns whether the expert's uses have reached their bound.
bool CachePolicy::use(int32_t layer, int32_t expert) {
  Pool& pool = pool_of(layer);
  Expert& entry = at(layer, expert);
  meet(layer, expert);
  if (entry.slot != kNone) pool.order.remove(entry.slot);
  entry.last = pool.now;
  ++entry.uses;
  if (entry.slot != kNone) pool.order.add(entry.slot, held_as(layer, expert));
  return entry.uses >= kMostUses;
}

void CachePolicy::halve_uses(int32_t pool_index) {
  Pool& pool = pools_[static_cast<size_t>(pool_index)];
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (layers_[layer].pool != pool_index) continue;
    std::vector<Expert>& experts = layers_[layer].experts;
    for (size_t expert = 0; expert < experts.size(); ++expert) {
      const int32_t slot = experts[expert].slot;
      if (slot != kNone) pool.order.remove(slot);
      experts[expert].uses /= 2;
      if (slot != kNone)
        pool.order.add(slot, held_as(static_cast<int32_t>(layer), static_cast<int32_t>(expert)));
    }
  }
}

// There is somebody to evict. A narrow call that finds no free slot needs one expert that is not in the
// pool, so one is there that it does not need; a wide call has used none of them.
int32_t CachePolicy::evict_first(Pool& pool, ExpertPlace* place) {
  const int32_t slot = pool.order.first(pool.now);
  evict(slot, pool.order.held(slot), place);
  return slot;
}

void CachePolicy::evict(int32_t slot, const EvictionOrder::Held& held, ExpertPlace* place) {
  const int32_t layer = held.layer;
  const int32_t expert = held.expert;
  place->slot = slot;
  place->evicted_layer = layer;
  place->evicted_expert = expert;
  if (std::exchange(at(layer, expert).is_expected, false))
    ++layers_[static_cast<size_t>(layer)].prefetched.wasted;
  release(layer, expert);
}

}  // namespace sparse_experts::engine
