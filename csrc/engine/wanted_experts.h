// The misses of a wave. When it goes out of sight, the slots of those that have not arrived are empty.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cache_pool.h"
#include "engine/expert_fetches.h"
#include "engine/host_tier.h"

namespace sparse_experts::engine {

class WantedExperts {
 public:
  WantedExperts(CachePool& pool, int32_t layer, HostTier* host_tier)
      : pool_(pool), layer_(layer), host_tier_(*host_tier) {}
  ~WantedExperts();
  WantedExperts(const WantedExperts&) = delete;
  WantedExperts& operator=(const WantedExperts&) = delete;

  void reserve(size_t count);
  // By rising number of the expert.
  void add(const ExpertFetch& fetch);
  // Says which of them the host tier has, or wants. Returns how many it has.
  uint64_t look_in_host();
  bool is_empty() const { return fetches_.empty(); }
  const std::vector<ExpertFetch>& fetches() const { return fetches_; }

  // Their slots keep them, and the host tier its blocks, whatever becomes of the call.
  void keep(const std::vector<size_t>& arrived);
  void keep_in_host(const std::vector<size_t>& arrived);

 private:
  CachePool& pool_;
  const int32_t layer_;
  HostTier& host_tier_;
  std::vector<ExpertFetch> fetches_;
  std::vector<int32_t> missing_;  // by fetch: whose slot is to be emptied
};

}  // namespace sparse_experts::engine
