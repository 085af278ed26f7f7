#include "engine/eviction_order.h"

#include <tuple>

namespace sparse_experts::engine {
namespace {

constexpr size_t kWordBits = 64;

}  // namespace

EvictionOrder::EvictionOrder(EvictionRule rule, int32_t num_slots)
    : rule_(rule), nodes_(static_cast<size_t>(num_slots)) {}

bool EvictionOrder::is_older(const Held& a, const Held& b) {
  return std::tie(a.last, a.layer, a.expert) < std::tie(b.last, b.layer, b.expert);
}

// What was used just now belongs to the end, or a few places before it.
void EvictionOrder::insert(List* list, Link Node::* link, int32_t slot) {
  Node& node = nodes_[static_cast<size_t>(slot)];
  int32_t before = list->tail;
  while (before != kNone && is_older(node.held, nodes_[static_cast<size_t>(before)].held))
    before = (nodes_[static_cast<size_t>(before)].*link).before;
  const int32_t after =
      before == kNone ? list->head : (nodes_[static_cast<size_t>(before)].*link).after;
  node.*link = {before, after};
  (before == kNone ? list->head : (nodes_[static_cast<size_t>(before)].*link).after) = slot;
  (after == kNone ? list->tail : (nodes_[static_cast<size_t>(after)].*link).before) = slot;
}

void EvictionOrder::erase(List* list, Link Node::* link, int32_t slot) {
  const auto [before, after] = nodes_[static_cast<size_t>(slot)].*link;
  (before == kNone ? list->head : (nodes_[static_cast<size_t>(before)].*link).after) = after;
  (after == kNone ? list->tail : (nodes_[static_cast<size_t>(after)].*link).before) = before;
}

void EvictionOrder::mark(size_t uses, bool is_full) {
  const uint64_t bit = uint64_t{1} << (uses % kWordBits);
  uint64_t& word = full_[uses / kWordBits];
  word = is_full ? word | bit : word & ~bit;
}

// The fewest uses from `from` on that an expert has; kNone: none has as many.
int32_t EvictionOrder::next_uses(int32_t from) const {
  const auto begin = static_cast<size_t>(from);
  size_t word = begin / kWordBits;
  if (word >= full_.size()) return kNone;
  uint64_t bits = full_[word] & (~uint64_t{0} << (begin % kWordBits));
  while (bits == 0) {
    if (++word == full_.size()) return kNone;
    bits = full_[word];
  }
  return static_cast<int32_t>(word * kWordBits) + __builtin_ctzll(bits);
}

void EvictionOrder::add(int32_t slot, const Held& held) {
  nodes_[static_cast<size_t>(slot)].held = held;
  if (rule_ == EvictionRule::kLru || rule_ == EvictionRule::kLfru)
    insert(&by_age_, &Node::by_age, slot);
  if (rule_ != EvictionRule::kLfu && rule_ != EvictionRule::kLfru) return;
  const auto uses = static_cast<size_t>(held.uses);
  if (uses >= by_uses_.size()) {
    by_uses_.resize(uses + 1);
    full_.resize(uses / kWordBits + 1);
  }
  insert(&by_uses_[uses], &Node::by_uses, slot);
  mark(uses, true);
}

void EvictionOrder::remove(int32_t slot) {
  if (rule_ == EvictionRule::kLru || rule_ == EvictionRule::kLfru)
    erase(&by_age_, &Node::by_age, slot);
  if (rule_ != EvictionRule::kLfu && rule_ != EvictionRule::kLfru) return;
  const auto uses = static_cast<size_t>(held(slot).uses);
  erase(&by_uses_[uses], &Node::by_uses, slot);
  mark(uses, by_uses_[uses].head != kNone);
}

int32_t EvictionOrder::first(uint64_t now) const {
  if (rule_ == EvictionRule::kLru) return by_age_.head;
  if (rule_ == EvictionRule::kLfru) return least_for_its_age(now);
  // Where the oldest of as many uses was used in this call, all of them were.
  for (int32_t uses = next_uses(0);; uses = next_uses(uses + 1)) {
    const int32_t oldest = by_uses_[static_cast<size_t>(uses)].head;
    if (held(oldest).last != now) return oldest;
  }
}

// Looks from both ends, at the oldest of those of as many uses, few uses first, and at the oldest of all,
// until what is left has too many uses for the age that it can have.
int32_t EvictionOrder::least_for_its_age(uint64_t now) const {
  // Quotients of uses and age are compared by their cross products, which fit for 2^47 calls.
  const auto product = [&](int32_t uses_of, int32_t age_of) {
    return static_cast<uint64_t>(held(uses_of).uses) * (now - held(age_of).last);
  };
  const auto goes_before = [&](int32_t a, int32_t b) {
    const uint64_t left = product(a, b);
    const uint64_t right = product(b, a);
    return left != right ? left < right : is_older(held(a), held(b));
  };
  int32_t oldest = by_age_.head;
  int32_t found = oldest;
  for (int32_t uses = next_uses(0); uses != kNone; uses = next_uses(uses + 1)) {
    const int32_t fewest = by_uses_[static_cast<size_t>(uses)].head;
    if (held(fewest).last != now && goes_before(fewest, found)) found = fewest;
    if (goes_before(oldest, found)) found = oldest;
    // None that was not looked at has fewer uses, and none is older.
    if (product(fewest, found) > product(found, oldest)) break;
    oldest = nodes_[static_cast<size_t>(oldest)].by_age.after;
    if (oldest == kNone || held(oldest).last == now) break;  // every other was looked at
  }
  return found;
}

}  // namespace sparse_experts::engine
