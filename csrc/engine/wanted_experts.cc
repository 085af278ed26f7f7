#include "engine/wanted_experts.h"

namespace sparse_experts::engine {

WantedExperts::~WantedExperts() {
  for (const int32_t expert : missing_) {
    if (expert != kNone) pool_.policy().forget(layer_, expert);
  }
  for (const ExpertFetch& fetch : fetches_) {
    if (fetch.host_block != nullptr && !fetch.is_in_host) host_tier_.forget(fetch.expert);
  }
}

void WantedExperts::reserve(size_t count) {
  fetches_.reserve(count);
  missing_.reserve(count);
}

void WantedExperts::add(const ExpertFetch& fetch) {
  fetches_.push_back(fetch);
  missing_.push_back(fetch.passes ? kNone : fetch.expert);
}

uint64_t WantedExperts::look_in_host() {
  std::vector<HostPolicy::Miss> misses;
  misses.reserve(fetches_.size());
  for (const ExpertFetch& fetch : fetches_) misses.push_back({fetch.expert, fetch.passes});
  const std::vector<HostTier::Place> places = host_tier_.plan(misses);
  uint64_t num_here = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    fetches_[i].host_block = places[i].block;
    fetches_[i].is_in_host = places[i].is_hit;
    if (places[i].is_hit) ++num_here;
  }
  return num_here;
}

void WantedExperts::keep(const std::vector<size_t>& arrived) {
  for (const size_t i : arrived) missing_[i] = kNone;
}

void WantedExperts::keep_in_host(const std::vector<size_t>& arrived) {
  for (const size_t i : arrived) fetches_[i].is_in_host = true;
}

}  // namespace sparse_experts::engine
