// Which experts lie in the slots of a cache, and what a call does to it: decisions alone. There is no
// memory, no file and no clock in here, so that the engine, which acts on the decisions, and a
// simulation, which counts them, come to the same integers.
//
// Slots belong to pools. A layer takes slots of one pool: with a pool for each layer every layer has a
// quota of its own, with one pool for several layers they compete. All experts of a pool have one size.
//
// The rules. A call needs distinct experts of one layer; `now` is the number of the pool's calls, this
// one included.
//   1. An expert that has a slot is a hit.
//   2. A call is narrow where it needs at most as many experts as the pool has slots, else wide. In a
//      narrow call every needed expert is used: its `last` becomes `now`, and its `uses` rise by one.
//      Both begin at 0. A wide call changes neither, because it says of nearly every expert that it was
//      used.
//   3. Misses are served by rising number. Each takes the free slot of the lowest number. Where none is
//      free, a narrow call evicts; never an expert that it needs itself. A wide call evicts nothing, so
//      that a long prompt does not wash out what the tokens before and after it use: its misses pass
//      through the ring, slots outside of the pools that keep nothing.
//   4. The policy says who is evicted:
//        lru     the least `last`
//        lfu     the fewest `uses`, among equals the least `last`
//        lfru    the least uses / (now - last), among equals the least `last`
//        static  nobody, ever: what finds no free slot passes through the ring
//      and among those equal in this too, the lowest layer and the lowest expert.
//   5. `last` and `uses` outlast an eviction. When a call brings the uses of an expert to kMostUses,
//      those of all experts of the pool are halved and rounded down before anything is evicted, so that
//      counting has a bound and old habits fade.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

namespace sparse_experts::engine {

enum class EvictionRule : int32_t { kLru, kLfu, kLfru, kStatic };

constexpr int32_t kMostUses = 1 << 16;
constexpr int32_t kNone = -1;

struct CacheShape {
  struct Layer {
    int32_t num_experts = 0;
    int32_t pool = 0;
  };
  EvictionRule rule = EvictionRule::kLru;
  std::vector<int32_t> pool_slots;  // per pool, at least 1
  std::vector<Layer> layers;
};

// Where a call finds, or puts, an expert that it needs.
struct ExpertPlace {
  int32_t expert = 0;
  int32_t slot = kNone;  // of the layer's pool; kNone: it passes through the ring
  bool is_hit = false;   // its weights lie in the slot already
  // Whose weights the slot held until now; kNone where it was free.
  int32_t evicted_layer = kNone;
  int32_t evicted_expert = kNone;
};

// Calls of one object come one after another: what a call was told holds until the next plan().
class CachePolicy {
 public:
  // Throws INVALID_ARGUMENT where the shape names a pool that there is not, or one without slots.
  explicit CachePolicy(const CacheShape& shape);

  // `experts`: the `count` distinct experts that a call of the layer needs, by rising number. Returns a
  // place for each in the same order, valid until the next call. Throws INVALID_ARGUMENT where they do
  // not rise, or are none of the layer's; nothing has changed then.
  const std::vector<ExpertPlace>& plan(int32_t layer, const int32_t* experts, int64_t count);

  // The expert's weights are put into the free slot of the lowest number, without being used. Returns
  // the slot, its own where it has one already, or kNone where no slot is free.
  int32_t warm(int32_t layer, int32_t expert);

  // The weights did not arrive: the expert's slot is free again. Nothing where it has none.
  void forget(int32_t layer, int32_t expert);

  // kNone: the expert has no slot.
  int32_t slot_of(int32_t layer, int32_t expert) const;

 private:
  struct Expert {
    int32_t slot = kNone;
    int32_t uses = 0;
    uint64_t last = 0;
  };
  struct Layer {
    int32_t pool = 0;
    std::vector<Expert> experts;
  };
  // An expert that has a slot. In the order of eviction, but for lfru, whose order changes with `now`.
  struct Held {
    int32_t uses;  // 0 under lru, which does not ask
    uint64_t last;
    int32_t layer;
    int32_t expert;
    bool operator<(const Held& other) const;
  };
  struct OldestFirst {
    bool operator()(const Held& a, const Held& b) const;
  };
  struct Pool {
    int32_t num_slots = 0;
    uint64_t now = 0;
    std::set<int32_t> free;
    std::set<Held> held;
    std::set<Held, OldestFirst> by_age;  // the same under lfru, else empty
  };

  void check(int32_t layer, int32_t expert) const;
  Expert& at(int32_t layer, int32_t expert);
  Held held_as(int32_t layer, int32_t expert);
  void hold(Pool& pool, const Held& held) const;
  void release(Pool& pool, const Held& held) const;
  int32_t take_free_slot(int32_t layer, int32_t expert);
  bool use(int32_t layer, int32_t expert);
  void halve_uses(int32_t pool_index);
  ExpertPlace place(int32_t layer, int32_t expert, bool is_narrow);
  static Held first_to_go(const Pool& pool);
  static Held least_for_its_age(const Pool& pool);

  EvictionRule rule_;
  std::vector<Pool> pools_;
  std::vector<Layer> layers_;
  std::vector<ExpertPlace> places_;
};

}  // namespace sparse_experts::engine
