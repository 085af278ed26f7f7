#include "engine/expert_cache.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "engine/layer.h"
#include "ops/contract.h"

namespace sparse_experts::engine {
namespace {

// Between two looks whether a load is still wanted.
constexpr uint64_t kTouchBytes = uint64_t{8} << 20;

template <typename Body>
void run_step(LayerState& layer, const Body& body) {
  throw_if_failed(layer.executor().call([&](const SeBackend& backend, SeDevice*, SeStatus* status) {
    return body(backend, status);
  }));
}

void compute_experts(LayerState& layer, SeForwardRun* run, const std::vector<int32_t>& experts) {
  if (experts.empty()) return;
  run_step(layer, [&](const SeBackend& backend, SeStatus* status) {
    return backend.forward_experts(run, experts.data(), static_cast<int64_t>(experts.size()),
                                   status);
  });
}

}  // namespace

// The misses of a wave. Slots of those that have not arrived when it goes out of sight are empty.
class ExpertCache::Wanted {
 public:
  explicit Wanted(ExpertCache& cache) : cache_(cache) {}
  ~Wanted() {
    for (const int32_t expert : missing_) {
      if (expert != kNone) cache_.pool_->policy().forget(cache_.layer_, expert);
    }
  }
  Wanted(const Wanted&) = delete;
  Wanted& operator=(const Wanted&) = delete;

  void reserve(size_t count) {
    fetches_.reserve(count);
    missing_.reserve(count);
  }
  void add(const ExpertFetch& fetch) {
    fetches_.push_back(fetch);
    missing_.push_back(fetch.passes ? kNone : fetch.expert);
  }
  void keep(const std::vector<size_t>& arrived) {
    for (const size_t i : arrived) missing_[i] = kNone;
  }
  bool is_empty() const { return fetches_.empty(); }
  const std::vector<ExpertFetch>& fetches() const { return fetches_; }

 private:
  ExpertCache& cache_;
  std::vector<ExpertFetch> fetches_;
  std::vector<int32_t> missing_;  // by fetch: whose slot is to be emptied
};

ExpertCache::ExpertCache(const CacheOptions& options, const CachePlan& plan, int64_t num_experts,
                         std::shared_ptr<ReaderPool> readers)
    : options_(options),
      plan_(plan),
      num_experts_(num_experts),
      readers_(std::move(readers)),
      pool_(options.pool ? options.pool : std::make_shared<CachePool>(options.rule)) {}

ExpertCache::~ExpertCache() {
  if (layer_ != kNone) pool_->leave(layer_);
}

void ExpertCache::allocate(LayerState& layer) {
  if (pool_->rule() != options_.rule) fail_argument("Layers share a cache of several policies");
  auto memory = DeviceMemory::allocate(layer.shared_executor(), plan_.bytes());
  layer_ = pool_->join(&layer, num_experts_, memory, plan_.block_bytes, plan_.num_slots);
  memory_ = std::move(memory);
}

uint8_t* ExpertCache::ring_block(int32_t number) const {
  return memory_->data() +
         static_cast<uint64_t>(int64_t{plan_.num_slots} + number) * plan_.block_bytes;
}

void ExpertCache::open(LayerState& layer, const std::vector<std::string>& files,
                       std::vector<LoadItem> items) {
  source_.reset();
  pool_->empty(layer_);
  std::vector<int32_t> experts(static_cast<size_t>(num_experts_));
  for (size_t e = 0; e < experts.size(); ++e) experts[e] = static_cast<int32_t>(e);
  layer.set_experts(experts, {});
  source_.emplace(files, std::move(items), num_experts_,
                  layer.layer().experts.activation.gated != 0, options_.direct);
}

void ExpertCache::touch(LayerState& layer, const std::function<void()>& check) {
  if (!layer.executor().has_host_memory()) return;
  const uint64_t bytes = plan_.bytes();
  for (uint64_t done = 0; done < bytes; done += kTouchBytes) {
    check();
    std::memset(memory_->data() + done, 0, std::min(kTouchBytes, bytes - done));
  }
}

void ExpertCache::warm(const std::vector<int32_t>& experts) {
  for (const int32_t expert : experts) pool_->policy().warm(layer_, expert);
}

void ExpertCache::finish_warm(LayerState& layer, const std::vector<int32_t>& experts) {
  std::vector<int32_t> there;
  std::vector<uint8_t*> blocks;
  for (const int32_t expert : experts) {
    uint8_t* const block = block_of(expert);
    if (block == nullptr) continue;
    there.push_back(expert);
    blocks.push_back(block);
  }
  layer.set_experts(there, blocks);
}

uint8_t* ExpertCache::block_of(int32_t expert) const {
  const int32_t slot = pool_->policy().slot_of(layer_, expert);
  return slot == kNone ? nullptr : pool_->block(slot);
}

// Nobody may find an expert in a block that is about to be written.
void ExpertCache::take_away(LayerState& layer, const std::vector<ExpertPlace>& places) {
  std::vector<int32_t> own;
  for (const ExpertPlace& place : places) {
    if (place.evicted_expert == kNone) continue;
    if (place.evicted_layer == layer_) {
      own.push_back(place.evicted_expert);
    } else {
      pool_->take_away(place.evicted_layer, place.evicted_expert);
    }
  }
  layer.set_experts(own, {});
}

CacheStats ExpertCache::stats() const {
  return {hits_, misses_, evictions_, bytes_read_, wait_ns_};
}

uint64_t ExpertCache::compute(LayerState& layer, SeForwardRun* run, const SeForwardArgs& args) {
  const uint64_t before = bytes_read_;
  SeForwardWave wave = {};
  for (;;) {
    run_step(layer, [&](const SeBackend& backend, SeStatus* status) {
      return backend.forward_wave(run, &wave, status);
    });
    if (wave.num_tokens == 0) return bytes_read_ - before;
    std::vector<int32_t> needed;
    for (int64_t e = 0; e < num_experts_; ++e) {
      if (wave.expert_offsets[e + 1] > wave.expert_offsets[e])
        needed.push_back(static_cast<int32_t>(e));
    }
    if (!needed.empty()) compute_wave(layer, run, needed, args.cancel);
    run_step(layer, [&](const SeBackend& backend, SeStatus* status) {
      return backend.forward_finish(run, status);
    });
  }
}

void ExpertCache::compute_wave(LayerState& layer, SeForwardRun* run,
                               const std::vector<int32_t>& needed, const int32_t* cancel) {
  std::vector<int32_t> hits;
  std::vector<int32_t> leaving;
  Wanted wanted(*this);
  for (auto* list : {&hits, &leaving}) list->reserve(needed.size());
  wanted.reserve(needed.size());
  // The answer holds until the policy is asked again, by the next call of any of the pool's layers.
  const std::vector<ExpertPlace>& places = pool_->plan(layer_, needed);
  int32_t num_beside = 0;
  uint64_t num_evicted = 0;
  const bool is_wide = needed.size() > static_cast<size_t>(pool_->num_slots());
  const auto leaves = [&](int32_t expert) {
    return std::any_of(places.begin(), places.end(), [&](const ExpertPlace& other) {
      return other.evicted_layer == layer_ && other.evicted_expert == expert;
    });
  };
  for (const ExpertPlace& place : places) {
    if (place.evicted_expert != kNone) ++num_evicted;
    if (place.is_hit) {
      (is_wide && leaves(place.expert) ? leaving : hits).push_back(place.expert);
      continue;
    }
    // Without a slot: through the blocks beside them, in turn.
    const bool is_beside = place.slot == kNone;
    uint8_t* const block =
        is_beside ? ring_block(num_beside++ % plan_.num_ring) : pool_->block(place.slot);
    wanted.add({place.expert, block, is_wide || is_beside, place.passes});
  }
  misses_ += wanted.fetches().size();
  hits_ += needed.size() - wanted.fetches().size();
  evictions_ += num_evicted;
  try {
    compute_experts(layer, run, leaving);
  } catch (...) {
    try {
      take_away(layer, places);
    } catch (...) {
      // The device is lost, and computes nothing with them any more.
    }
    throw;
  }
  take_away(layer, places);
  if (wanted.is_empty()) return compute_experts(layer, run, hits);
  fetch(layer, run, hits, &wanted, cancel);
}

void ExpertCache::fetch(LayerState& layer, SeForwardRun* run, const std::vector<int32_t>& hits,
                        Wanted* wanted, const int32_t* cancel) {
  const auto read = [&](const ExpertFetch& one, ReadScratch& scratch,
                        const std::function<void()>& check) {
    const auto slot_of = [&](MatrixKind kind) {
      return layer.expert_slot(one.block, one.expert, kind);
    };
    // What is not written, or still read by somebody, shows.
    if (is_contract_checked()) std::memset(one.block, 0xff, plan_.block_bytes);
    source_->read(layer.executor(), one.expert, slot_of, scratch, check);
    bytes_read_ += source_->stored_bytes(one.expert);
  };
  ExpertFetches fetches(&wanted->fetches(), read);
  const auto end = [&]() noexcept {
    fetches.stop();
    readers_->wait();
    wait_ns_ += fetches.waited().count();
  };
  try {
    readers_->begin(std::min(wanted->fetches().size(), static_cast<size_t>(options_.num_readers)),
                    [&](ReadScratch& scratch) { fetches.work(scratch); });
    compute_experts(layer, run, hits);
    for (std::vector<size_t> arrived; !(arrived = fetches.take(cancel)).empty();)
      compute_arrived(layer, run, wanted, arrived, &fetches);
  } catch (...) {
    end();
    throw;
  }
  end();
}

void ExpertCache::compute_arrived(LayerState& layer, SeForwardRun* run, Wanted* wanted,
                                  const std::vector<size_t>& arrived, ExpertFetches* fetches) {
  std::vector<int32_t> experts;
  std::vector<uint8_t*> blocks;
  std::vector<int32_t> passing;
  for (const size_t i : arrived) {
    const ExpertFetch& one = wanted->fetches()[i];
    experts.push_back(one.expert);
    blocks.push_back(one.block);
    if (one.passes) passing.push_back(one.expert);
  }
  layer.set_experts(experts, blocks);
  wanted->keep(arrived);
  try {
    compute_experts(layer, run, experts);
  } catch (...) {
    // A device that refuses this too is lost, and computes nothing with them any more.
    layer.forget_experts(passing);
    throw;
  }
  layer.set_experts(passing, {});
  for (const size_t i : arrived) {
    const ExpertFetch& one = wanted->fetches()[i];
    if (one.passes) fetches->give_back(one.block);
  }
}

}  // namespace sparse_experts::engine
