// The experts that have slots of a pool, kept so that the one to evict is found without looking at all of
// them. The rules are those of cache_policy.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sparse_experts::engine {

enum class EvictionRule : int32_t { kLru, kLfu, kLfru, kStatic };

constexpr int32_t kNone = -1;

class EvictionOrder {
 public:
  struct Held {
    int32_t uses = 0;
    uint64_t last = 0;
    int32_t layer = 0;
    int32_t expert = 0;
  };

  EvictionOrder(EvictionRule rule, int32_t num_slots);

  void add(int32_t slot, const Held& held);
  void remove(int32_t slot);
  const Held& held(int32_t slot) const { return nodes_[static_cast<size_t>(slot)].held; }
  // The slot whose expert goes first in call `now`, of those that this call has not used: there must be
  // one. Not under kStatic.
  int32_t first(uint64_t now) const;

 private:
  struct Link {
    int32_t before = kNone;
    int32_t after = kNone;
  };
  struct Node {
    Held held;
    Link by_age;
    Link by_uses;
  };
  struct List {
    int32_t head = kNone;
    int32_t tail = kNone;
  };

  static bool is_older(const Held& a, const Held& b);
  void insert(List* list, Link Node::* link, int32_t slot);
  void erase(List* list, Link Node::* link, int32_t slot);
  void mark(size_t uses, bool is_full);
  int32_t next_uses(int32_t from) const;
  int32_t least_for_its_age(uint64_t now) const;

  const EvictionRule rule_;
  std::vector<Node> nodes_;     // by slot
  List by_age_;                 // all, the oldest first; of lru and lfru
  std::vector<List> by_uses_;   // those of as many uses, the oldest first; of lfu and lfru
  std::vector<uint64_t> full_;  // a bit for each list of by_uses_ that is not empty
};

}  // namespace sparse_experts::engine
