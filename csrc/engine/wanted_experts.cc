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
  std::vector<int32_t> experts;
  std::vector<size_t> asked;
  for (size_t i = 0; i < fetches_.size(); ++i) {
    if (host_tier_.is_fixed() && !fetches_[i].passes) continue;
    experts.push_back(fetches_[i].expert);
    asked.push_back(i);
  }
  const std::vector<HostTier::Place> places = host_tier_.plan(experts);
  uint64_t num_here = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    ExpertFetch& fetch = fetches_[asked[i]];
    fetch.host_block = places[i].block;
    fetch.is_in_host = places[i].is_hit;
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
