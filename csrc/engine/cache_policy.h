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
//      free, a narrow call evicts; never an expert that it needs itself. A wide call evicts few, so that
//      a long prompt does not wash out what the tokens before and after it use: kMostRing slots, fewer
//      where the call has fewer misses or the pool fewer slots, are its ring. The free slots of the
//      highest numbers belong to it, and where they are too few those of experts that are evicted, be
//      they needed or not; those that are needed still count as hits. Misses that find no free slot
//      beside the ring pass through its slots in turn, and the last of them stay there.
//   4. The policy says who is evicted:
//        lru     the least `last`
//        lfu     the fewest `uses`, among equals the least `last`
//        lfru    the least uses / (now - last), among equals the least `last`
//        static  nobody, ever: what finds no free slot passes, through a ring that is no part of the
//                pool
//      and among those equal in this too, the lowest layer and the lowest expert.
//   5. `last` and `uses` outlast an eviction. When a call brings the uses of an expert to kMostUses,
//      those of all experts of the pool are halved and rounded down before anything is evicted, so that
//      counting has a bound and old habits fade.
//   6. prefetch() gives slots to experts of a layer that are expected, the likeliest first. That is no use
//      of them: `last` and `uses` stay, so who was expected in vain goes soon. Of those that have no slot
//      the first few are meant. Each takes the free slot of the lowest number. Where none is free, another
//      expert of the layer leaves, under `static` none: one that is not expected (among those the least
//      `last`, then the lowest number), else the least likely. It ends before one would leave that is
//      likelier than who comes, or that the layer's last narrow call used.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "engine/eviction_order.h"

namespace sparse_experts::engine {

constexpr int32_t kMostUses = 1 << 16;
// Reads and matmuls of a wide call overlap with so many.
constexpr int32_t kMostRing = 4;

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
  int32_t slot = kNone;  // of the layer's pool; kNone: in none of them
  bool is_hit = false;   // its weights lie in the slot already
  bool passes = false;   // it is gone when the call has ended
  // Whose weights the slot held until now; kNone where it was free.
  int32_t evicted_layer = kNone;
  int32_t evicted_expert = kNone;
};

// What became of the experts of a layer that were expected. given = used + wasted + dropped + those that
// wait for a call.
struct PrefetchCounts {
  uint64_t given = 0;    // got slots
  uint64_t used = 0;     // met by a call there
  uint64_t wasted = 0;   // left before one did
  uint64_t dropped = 0;  // forgotten before one did: their weights did not arrive
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

  // Rule 6. `experts`: distinct, the likeliest first; of them at most `most` get slots. Returns places of
  // those that did, valid until the next call. Throws INVALID_ARGUMENT where they are none of the layer's.
  const std::vector<ExpertPlace>& prefetch(int32_t layer, const std::vector<int32_t>& experts,
                                           int64_t most);
  const PrefetchCounts& prefetch_counts(int32_t layer) const;

  // The weights did not arrive: the expert's slot is free again. Nothing where it has none.
  void forget(int32_t layer, int32_t expert);

  // kNone: the expert has no slot.
  int32_t slot_of(int32_t layer, int32_t expert) const;

 private:
  struct Expert {
    int32_t slot = kNone;
    int32_t uses = 0;
    uint64_t last = 0;
    bool is_expected = false;  // it got its slot by prefetch(), and no call has met it there
  };
  struct Layer {
    int32_t pool = 0;
    std::vector<Expert> experts;
    uint64_t last = 0;  // its last narrow call
    PrefetchCounts prefetched;
  };
  struct Pool {
    int32_t num_slots = 0;
    uint64_t now = 0;
    std::set<int32_t> free;
    EvictionOrder order;
  };

  void check(int32_t layer, int32_t expert) const;
  Expert& at(int32_t layer, int32_t expert);
  Pool& pool_of(int32_t layer);
  EvictionOrder::Held held_as(int32_t layer, int32_t expert);
  void hold(int32_t layer, int32_t expert, int32_t slot);
  int32_t take_free_slot(int32_t layer, int32_t expert);
  void meet(int32_t layer, int32_t expert);
  bool use(int32_t layer, int32_t expert);
  void release(int32_t layer, int32_t expert);
  void halve_uses(int32_t pool_index);
  void evict(int32_t slot, const EvictionOrder::Held& held, ExpertPlace* place);
  int32_t evict_first(Pool& pool, ExpertPlace* place);
  std::vector<int32_t> least_expected(int32_t layer, const std::vector<size_t>& ranks) const;
  void plan_narrow(int32_t layer, const int32_t* experts, int64_t count);
  void plan_wide(int32_t layer, const int32_t* experts, int64_t count);

  EvictionRule rule_;
  std::vector<Pool> pools_;
  std::vector<Layer> layers_;
  std::vector<ExpertPlace> places_;
};

}  // namespace sparse_experts::engine
