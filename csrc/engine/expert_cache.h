// The experts of one layer that do not all lie in memory. A call routes first; what it needs and finds
// here is computed while readers bring the rest from the checkpoint, and the call gives the bits that
// it would give if all were here. Who stays is the policy's affair (cache_policy.h), and where they lie
// that of a pool, which the layer may share with others.
//
// Used by whoever runs on the device; stats() by anyone.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/cache_plan.h"
#include "engine/cache_pool.h"
#include "engine/expert_fetches.h"
#include "engine/expert_source.h"
#include "engine/host_tier.h"
#include "engine/layer_sequence.h"
#include "engine/reader_pool.h"

namespace sparse_experts::engine {

class LayerState;
class WantedExperts;

// Since the layer was made; one call of several waves of tokens counts an expert once for each.
struct CacheStats {
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t evictions = 0;
  uint64_t host_hits = 0;   // of the misses, those that the host tier had
  uint64_t bytes_read = 0;  // of the files
  int64_t wait_ns = 0;      // that calls waited for experts
  // Experts that were read ahead, as of the layer's last call; see PrefetchCounts.
  PrefetchCounts prefetched;
  uint64_t bytes_prefetched = 0;
};

class ExpertCache {
 public:
  // Without memory.
  ExpertCache(const CacheOptions& options, const CachePlan& plan, int64_t num_experts,
              std::shared_ptr<ReaderPool> readers);
  ~ExpertCache();
  ExpertCache(const ExpertCache&) = delete;
  ExpertCache& operator=(const ExpertCache&) = delete;

  // Takes the memory of the plan, and brings it into the pool. Throws OUT_OF_MEMORY, INVALID_ARGUMENT.
  void allocate(LayerState& layer);

  const CachePlan& plan() const { return plan_; }
  const HostTier& host_tier() const { return host_tier_; }
  const std::shared_ptr<CachePool>& pool() const { return pool_; }
  // Null: nothing is read ahead.
  const std::shared_ptr<LayerSequence>& sequence() const { return sequence_; }
  int32_t num_readers() const { return options_.num_readers; }
  // Reads go past the page cache.
  bool is_direct() const { return source_.has_value() && source_->is_direct(); }

  // Where experts are read from; the slots are empty then. Throws IO, INVALID_ARGUMENT.
  void open(LayerState& layer, const std::vector<std::string>& files, std::vector<LoadItem> items);
  // Touches the memory of all blocks, so that no call pays for that and the system's free memory counts
  // it. `check` may throw.
  void touch(LayerState& layer, const std::function<void()>& check);
  // Gives slots to the first of these experts, as many as are free. Whoever loads the layer writes them
  // there, and says when all of them have come; until then no call runs. Throws INVALID_ARGUMENT.
  void warm(const std::vector<int32_t>& experts);
  void finish_warm(LayerState& layer, const std::vector<int32_t>& experts);
  // Where the expert lies; null: it is not here.
  uint8_t* block_of(int32_t expert) const;

  // Computes a run that has begun, to its end. Returns the bytes that were read for it. When it throws
  // (IO, CANCELLED, DEVICE_LOST …) the slots of experts that did not arrive are empty, and the next call
  // reads them again.
  uint64_t compute(LayerState& layer, SeForwardRun* run, const SeForwardArgs& args);

  // Has experts read ahead that a call will probably need, the likeliest first. Only while running on the
  // device, and not while a call of this layer runs.
  void prefetch(LayerState& layer, const std::vector<int32_t>& experts);

  CacheStats stats() const;

 private:
  void compute_wave(LayerState& layer, SeForwardRun* run, const std::vector<int32_t>& needed,
                    const int32_t* cancel);
  // Computes what is here and what is under way, and asks meanwhile for what the next layer will need.
  void compute_hits(LayerState& layer, SeForwardRun* run, const std::vector<int32_t>& needed,
                    const std::vector<int32_t>& hits, const std::vector<AheadRead>& underway);
  void fetch(size_t num_underway, WantedExperts* wanted, LayerState& layer, SeForwardRun* run,
             const int32_t* cancel, const std::function<void()>& compute_hits);
  void read(LayerState& layer, int32_t expert, uint8_t* block, uint64_t read_bytes,
            ReadScratch& scratch, const std::function<void()>& check, bool is_pinned = false);
  void wait_for_fills(LayerState& layer) noexcept;
  // Ends what is read ahead and not needed. Returns what is, and still under way.
  std::vector<AheadRead> settle(LayerState& layer, const std::vector<int32_t>& needed);
  void count_prefetches();
  void compute_arrived(LayerState& layer, SeForwardRun* run, WantedExperts* wanted,
                       const std::vector<size_t>& arrived, ExpertFetches* fetches);
  void take_away(LayerState& layer, const std::vector<ExpertPlace>& places);
  uint8_t* ring_block(int32_t number) const;

  const CacheOptions options_;
  const CachePlan plan_;
  const int64_t num_experts_;
  const std::shared_ptr<ReaderPool> readers_;
  std::optional<ExpertSource> source_;
  const std::shared_ptr<CachePool> pool_;
  const std::shared_ptr<LayerSequence> sequence_;
  HostTier host_tier_;
  int32_t layer_ = kNone;     // its number in the pool
  int32_t position_ = kNone;  // its number in the sequence
  std::shared_ptr<DeviceMemory> memory_;

  std::atomic<uint64_t> hits_{0};
  std::atomic<uint64_t> misses_{0};
  std::atomic<uint64_t> evictions_{0};
  std::atomic<uint64_t> host_hits_{0};
  std::atomic<uint64_t> bytes_read_{0};
  std::atomic<int64_t> wait_ns_{0};
  std::atomic<uint64_t> bytes_prefetched_{0};
  mutable std::mutex counts_mutex_;
  PrefetchCounts prefetched_;
};

}  // namespace sparse_experts::engine
