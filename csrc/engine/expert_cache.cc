#include "engine/expert_cache.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "engine/layer.h"
#include "engine/wanted_experts.h"
#include "ops/contract.h"

namespace sparse_experts::engine {
namespace {

void compute_experts(LayerState& layer, SeForwardRun* run, const std::vector<int32_t>& experts) {
  if (experts.empty()) return;
  layer.executor().step([&](const SeBackend& backend, SeStatus* status) {
    return backend.forward_experts(run, experts.data(), static_cast<int64_t>(experts.size()),
                                   status);
  });
}

}  // namespace

ExpertCache::ExpertCache(const CacheOptions& options, const CachePlan& plan, int64_t num_experts,
                         std::shared_ptr<ReaderPool> readers)
    : options_(options),
      plan_(plan),
      num_experts_(num_experts),
      readers_(std::move(readers)),
      pool_(options.pool ? options.pool : std::make_shared<CachePool>(options.rule)),
      sequence_(!options.prefetches ? nullptr
                : options.sequence  ? options.sequence
                                    : std::make_shared<LayerSequence>()),
      host_tier_(options.rule, options.device_bytes > 0 ? options.host_bytes : 0, plan.block_bytes,
                 num_experts) {}

ExpertCache::~ExpertCache() {
  // First nobody has anything read ahead here any more, then nothing is.
  if (position_ != kNone) sequence_->leave(position_);
  if (layer_ == kNone) return;
  readers_->ahead().leave(pool_.get(), layer_);
  pool_->leave(layer_);
}

uint8_t* ExpertCache::ring_block(int32_t number) const {
  return memory_->data() +
         static_cast<uint64_t>(int64_t{plan_.num_slots} + number) * plan_.block_bytes;
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
  const std::lock_guard<std::mutex> lock(counts_mutex_);
  return {hits_,       misses_,  evictions_,  host_hits_,
          bytes_read_, wait_ns_, prefetched_, bytes_prefetched_};
}

uint64_t ExpertCache::compute(LayerState& layer, SeForwardRun* run, const SeForwardArgs& args) {
  const uint64_t before = bytes_read_;
  SeForwardWave wave = {};
  for (;;) {
    layer.executor().step([&](const SeBackend& backend, SeStatus* status) {
      return backend.forward_wave(run, &wave, status);
    });
    if (wave.num_tokens == 0) {
      count_prefetches();
      return bytes_read_ - before;
    }
    std::vector<int32_t> needed;
    for (int64_t e = 0; e < num_experts_; ++e) {
      if (wave.expert_offsets[e + 1] > wave.expert_offsets[e])
        needed.push_back(static_cast<int32_t>(e));
    }
    if (!needed.empty()) compute_wave(layer, run, needed, args.cancel);
    layer.executor().step([&](const SeBackend& backend, SeStatus* status) {
      return backend.forward_finish(run, status);
    });
  }
}

void ExpertCache::compute_wave(LayerState& layer, SeForwardRun* run,
                               const std::vector<int32_t>& needed, const int32_t* cancel) {
  std::vector<int32_t> hits;
  std::vector<int32_t> leaving;
  WantedExperts wanted(*pool_, layer_, &host_tier_);
  for (auto* list : {&hits, &leaving}) list->reserve(needed.size());
  wanted.reserve(needed.size());
  const bool is_wide = needed.size() > static_cast<size_t>(pool_->num_slots());
  // A wide call may give the places of what it needs itself to others.
  const std::vector<AheadRead> underway = settle(layer, is_wide ? std::vector<int32_t>() : needed);
  // The answer holds until the policy is asked again, by the next call of any of the pool's layers.
  const std::vector<ExpertPlace>& places = pool_->plan(layer_, needed);
  int32_t num_beside = 0;
  uint64_t num_evicted = 0;
  const auto leaves = [&](int32_t expert) {
    return std::any_of(places.begin(), places.end(), [&](const ExpertPlace& other) {
      return other.evicted_layer == layer_ && other.evicted_expert == expert;
    });
  };
  const auto is_underway = [&](int32_t expert) {
    return std::any_of(underway.begin(), underway.end(),
                       [&](const AheadRead& read) { return read.expert == expert; });
  };
  for (const ExpertPlace& place : places) {
    if (place.evicted_expert != kNone) ++num_evicted;
    if (place.is_hit) {
      if (is_underway(place.expert)) continue;
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
  const auto compute = [&] { compute_hits(layer, run, needed, hits, underway); };
  if (wanted.is_empty()) return compute();
  host_hits_ += wanted.look_in_host();
  fetch(underway.size(), &wanted, layer, run, cancel, compute);
}

void ExpertCache::compute_hits(LayerState& layer, SeForwardRun* run,
                               const std::vector<int32_t>& needed, const std::vector<int32_t>& hits,
                               const std::vector<AheadRead>& underway) {
  if (sequence_ != nullptr) {
    if (needed.size() <= static_cast<size_t>(pool_->num_slots())) {
      sequence_->saw(position_, needed);
    } else {
      sequence_->pause();
    }
  }
  compute_experts(layer, run, hits);
  for (const AheadRead& read : underway) {
    const auto begun = std::chrono::steady_clock::now();
    try {
      readers_->ahead().await(read);
    } catch (...) {
      pool_->policy().forget(layer_, read.expert);
      throw;
    }
    wait_ns_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begun).count();
    layer.set_experts({read.expert}, {read.block});
    compute_experts(layer, run, {read.expert});
  }
}

void ExpertCache::read(LayerState& layer, int32_t expert, uint8_t* block, uint64_t read_bytes,
                       ReadScratch& scratch, const std::function<void()>& check, bool is_pinned) {
  const auto slot_of = [&](MatrixKind kind) {
    return layer.expert_slot(block, expert, kind, is_pinned);
  };
  // What is not written, or still read by somebody, shows.
  if (is_contract_checked()) {
    if (is_pinned || layer.executor().has_host_memory()) {
      std::memset(block, 0xff, plan_.block_bytes);
    } else {
      const std::vector<uint8_t> poison(plan_.block_bytes, 0xff);
      copy_to_device(layer.executor(), block, poison.data(), plan_.block_bytes);
    }
  }
  source_->read(layer.executor(), expert, slot_of, scratch, check, read_bytes);
}

void ExpertCache::fetch(size_t num_underway, WantedExperts* wanted, LayerState& layer,
                        SeForwardRun* run, const int32_t* cancel,
                        const std::function<void()>& compute_hits) {
  const auto read_one = [&](const ExpertFetch& one, ReadScratch& scratch,
                            const std::function<void()>& check) {
    if (one.is_in_host) return;
    // Into the host tier where it has a block for it.
    const bool is_pinned = one.host_block != nullptr;
    read(layer, one.expert, is_pinned ? one.host_block : one.block, ExpertSource::kReadBytes,
         scratch, check, is_pinned);
    bytes_read_ += source_->stored_bytes(one.expert);
  };
  ExpertFetches fetches(&wanted->fetches(), read_one);
  const auto end = [&]() noexcept {
    fetches.stop();
    readers_->wait();
    wait_ns_ += fetches.waited().count();
  };
  try {
    // Threads that end a read which is under way come later.
    readers_->begin(std::min(wanted->fetches().size() + num_underway,
                             static_cast<size_t>(options_.num_readers)),
                    [&](ReadScratch& scratch) { fetches.work(scratch); });
    compute_hits();
    for (std::vector<size_t> arrived; !(arrived = fetches.take(cancel)).empty();)
      compute_arrived(layer, run, wanted, arrived, &fetches);
  } catch (...) {
    end();
    // Blocks of the host tier are the next call's to write to.
    wait_for_fills(layer);
    throw;
  }
  end();
}

void ExpertCache::wait_for_fills(LayerState& layer) noexcept {
  if (host_tier_.num_blocks() == 0) return;
  // A device that refuses this is lost, and copies nothing any more.
  static_cast<void>(
      layer.executor().call([](const SeBackend& backend, SeDevice* device, SeStatus* status) {
        return backend.fill_wait(device, status);
      }));
}

void ExpertCache::compute_arrived(LayerState& layer, SeForwardRun* run, WantedExperts* wanted,
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
  wanted->keep_in_host(arrived);
  for (const size_t i : arrived) {
    const ExpertFetch& one = wanted->fetches()[i];
    if (one.host_block == nullptr) continue;
    throw_if_failed(
        layer.executor().call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
          return backend.fill_begin(device, one.block, one.host_block, plan_.block_bytes, status);
        }));
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
