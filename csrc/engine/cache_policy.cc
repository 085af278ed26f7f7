#include "engine/cache_policy.h"

#include <string>
#include <tuple>

#include "engine/failure.h"

namespace sparse_experts::engine {

bool CachePolicy::Held::operator<(const Held& other) const {
  return std::tie(uses, last, layer, expert) <
         std::tie(other.uses, other.last, other.layer, other.expert);
}

bool CachePolicy::OldestFirst::operator()(const Held& a, const Held& b) const {
  return std::tie(a.last, a.layer, a.expert) < std::tie(b.last, b.layer, b.expert);
}

CachePolicy::CachePolicy(const CacheShape& shape) : rule_(shape.rule) {
  for (const int32_t slots : shape.pool_slots) {
    if (slots < 1) fail_argument("a pool of a cache needs at least one slot");
    Pool pool;
    pool.num_slots = slots;
    for (int32_t slot = 0; slot < slots; ++slot) pool.free.insert(pool.free.end(), slot);
    pools_.push_back(std::move(pool));
  }
  for (const CacheShape::Layer& layer : shape.layers) {
    if (layer.pool < 0 || layer.pool >= static_cast<int64_t>(pools_.size()))
      fail_argument("a layer of a cache names pool " + std::to_string(layer.pool) +
                    ", which there is not");
    if (layer.num_experts < 1) fail_argument("a layer of a cache needs at least one expert");
    layers_.push_back({layer.pool, std::vector<Expert>(static_cast<size_t>(layer.num_experts))});
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

  const int32_t pool = layers_[static_cast<size_t>(layer)].pool;
  const bool is_narrow = count <= pools_[static_cast<size_t>(pool)].num_slots;
  ++pools_[static_cast<size_t>(pool)].now;
  if (is_narrow) {
    bool is_full = false;
    for (int64_t i = 0; i < count; ++i) is_full = use(layer, experts[i]) || is_full;
    if (is_full) halve_uses(pool);
  }
  for (int64_t i = 0; i < count; ++i) places_.push_back(place(layer, experts[i], is_narrow));
  return places_;
}

int32_t CachePolicy::warm(int32_t layer, int32_t expert) {
  check(layer, expert);
  const int32_t slot = at(layer, expert).slot;
  return slot != kNone ? slot : take_free_slot(layer, expert);
}

void CachePolicy::forget(int32_t layer, int32_t expert) {
  check(layer, expert);
  Expert& entry = at(layer, expert);
  if (entry.slot == kNone) return;
  Pool& pool = pools_[static_cast<size_t>(layers_[static_cast<size_t>(layer)].pool)];
  release(pool, held_as(layer, expert));
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

CachePolicy::Held CachePolicy::held_as(int32_t layer, int32_t expert) {
  const Expert& entry = at(layer, expert);
  return {rule_ == EvictionRule::kLru ? 0 : entry.uses, entry.last, layer, expert};
}

void CachePolicy::hold(Pool& pool, const Held& held) const {
  pool.held.insert(held);
  if (rule_ == EvictionRule::kLfru) pool.by_age.insert(held);
}

void CachePolicy::release(Pool& pool, const Held& held) const {
  pool.held.erase(held);
  if (rule_ == EvictionRule::kLfru) pool.by_age.erase(held);
}

int32_t CachePolicy::take_free_slot(int32_t layer, int32_t expert) {
  Pool& pool = pools_[static_cast<size_t>(layers_[static_cast<size_t>(layer)].pool)];
  if (pool.free.empty()) return kNone;
  const int32_t slot = *pool.free.begin();
  pool.free.erase(pool.free.begin());
  at(layer, expert).slot = slot;
  hold(pool, held_as(layer, expert));
  return slot;
}

// Returns whether the expert's uses have reached their bound.
bool CachePolicy::use(int32_t layer, int32_t expert) {
  Pool& pool = pools_[static_cast<size_t>(layers_[static_cast<size_t>(layer)].pool)];
  Expert& entry = at(layer, expert);
  // The key of a set must not change where it stands.
  if (entry.slot != kNone) release(pool, held_as(layer, expert));
  entry.last = pool.now;
  ++entry.uses;
  if (entry.slot != kNone) hold(pool, held_as(layer, expert));
  return entry.uses >= kMostUses;
}

void CachePolicy::halve_uses(int32_t pool_index) {
  Pool& pool = pools_[static_cast<size_t>(pool_index)];
  pool.held.clear();
  pool.by_age.clear();
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (layers_[layer].pool != pool_index) continue;
    std::vector<Expert>& experts = layers_[layer].experts;
    for (size_t expert = 0; expert < experts.size(); ++expert) {
      experts[expert].uses /= 2;
      if (experts[expert].slot != kNone)
        hold(pool, held_as(static_cast<int32_t>(layer), static_cast<int32_t>(expert)));
    }
  }
}

ExpertPlace CachePolicy::place(int32_t layer, int32_t expert, bool is_narrow) {
  Expert& entry = at(layer, expert);
  ExpertPlace result;
  result.expert = expert;
  if (entry.slot != kNone) {
    result.slot = entry.slot;
    result.is_hit = true;
    return result;
  }
  result.slot = take_free_slot(layer, expert);
  if (result.slot != kNone || !is_narrow || rule_ == EvictionRule::kStatic) return result;

  Pool& pool = pools_[static_cast<size_t>(layers_[static_cast<size_t>(layer)].pool)];
  const Held victim = rule_ == EvictionRule::kLfru ? least_for_its_age(pool) : first_to_go(pool);
  result.evicted_layer = victim.layer;
  result.evicted_expert = victim.expert;
  forget(victim.layer, victim.expert);
  result.slot = take_free_slot(layer, expert);
  return result;
}

// There is one: a full pool holds as many experts as a narrow call needs at most, and one that it needs
// is not among them. Those that it needs were used `now`.
CachePolicy::Held CachePolicy::first_to_go(const Pool& pool) {
  auto it = pool.held.begin();
  while (it->last == pool.now) ++it;
  return *it;
}

// Looks from both ends, at the oldest of those of as many uses, few uses first, and at the oldest of all,
// until what is left has too many uses for the age that it can have.
CachePolicy::Held CachePolicy::least_for_its_age(const Pool& pool) {
  // Quotients of uses and age are compared by their cross products, which fit for 2^47 calls.
  const auto product = [&](const Held& uses_of, const Held& age_of) {
    return static_cast<uint64_t>(uses_of.uses) * (pool.now - age_of.last);
  };
  const auto goes_before = [&](const Held& a, const Held& b) {
    const uint64_t left = product(a, b);
    const uint64_t right = product(b, a);
    return left != right ? left < right : OldestFirst()(a, b);
  };
  auto oldest = pool.by_age.begin();
  Held found = *oldest;
  for (auto fewest = pool.held.begin(); fewest != pool.held.end();) {
    if (fewest->last != pool.now && goes_before(*fewest, found)) found = *fewest;
    if (goes_before(*oldest, found)) found = *oldest;
    // None that was not looked at has fewer uses, and none is older.
    if (product(*fewest, found) > product(found, *oldest)) break;
    ++oldest;
    if (oldest == pool.by_age.end() || oldest->last == pool.now)
      break;  // every other was looked at
    fewest = pool.held.lower_bound({fewest->uses + 1, 0, 0, 0});
  }
  return found;
}

}  // namespace sparse_experts::engine
