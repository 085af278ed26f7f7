// Experts of a layer that are read before a call asks for them.
#include <system_error>
#include <utility>

#include "engine/expert_cache.h"
#include "engine/layer.h"

namespace sparse_experts::engine {

void ExpertCache::prefetch(LayerState& layer, const std::vector<int32_t>& experts) {
  // Its load has failed, or has not ended.
  if (!source_.has_value()) return;
  const std::vector<ExpertPlace>& places = pool_->prefetch(layer_, experts, plan_.num_prefetched);
  std::vector<AheadRead> reads;
  for (const ExpertPlace& place : places) {
    if (place.evicted_expert != kNone) ++evictions_;
    const int32_t expert = place.expert;
    uint8_t* const block = pool_->block(place.slot);
    reads.push_back(
        {pool_, layer_, expert, block,
         [this, &layer, expert, block](ReadScratch& scratch, const std::function<void()>& check) {
           read(layer, expert, block, ExpertSource::kAheadBytes, scratch, check);
           bytes_prefetched_ += source_->stored_bytes(expert);
         }});
  }
  if (reads.empty()) return;
  const auto forget = [&] {
    for (const AheadRead& one : reads) pool_->policy().forget(layer_, one.expert);
  };
  try {
    take_away(layer, places);
    readers_->read_ahead(static_cast<size_t>(options_.num_readers), reads);
  } catch (const std::system_error&) {
    // No thread: calls read what they need, or say why they cannot.
    forget();
  } catch (...) {
    forget();
    throw;
  }
}

std::vector<AheadRead> ExpertCache::settle(LayerState& layer, const std::vector<int32_t>& needed) {
  AheadReads::Settled settled = readers_->ahead().settle(pool_.get(), layer_, needed);
  for (const AheadRead& read : settled.dropped) read.pool->policy().forget(read.layer, read.expert);
  std::vector<int32_t> experts;
  std::vector<uint8_t*> blocks;
  for (const AheadRead& read : settled.arrived) {
    // It may have left again.
    if (block_of(read.expert) != read.block) continue;
    experts.push_back(read.expert);
    blocks.push_back(read.block);
  }
  layer.set_experts(experts, blocks);
  return std::move(settled.underway);
}

void ExpertCache::count_prefetches() {
  const std::lock_guard<std::mutex> lock(counts_mutex_);
  prefetched_ = pool_->policy().prefetch_counts(layer_);
}

}  // namespace sparse_experts::engine
