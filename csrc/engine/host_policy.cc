#include "engine/host_policy.h"

#include <algorithm>

namespace sparse_experts::engine {

HostPolicy::HostPolicy(EvictionRule rule, int32_t num_blocks, int32_t num_experts)
    : rule_(rule), num_blocks_(num_blocks), num_experts_(num_experts) {
  empty();
}

void HostPolicy::empty() {
  if (num_blocks_ == 0) return;
  CacheShape shape;
  shape.rule = rule_;
  shape.pool_slots = {num_blocks_};
  shape.layers = {{num_experts_, 0}};
  policy_ = std::make_unique<CachePolicy>(shape);
}

const std::vector<HostPolicy::Place>& HostPolicy::plan(const std::vector<Miss>& misses) {
  places_.assign(misses.size(), Place());
  if (num_blocks_ == 0) return places_;
  const auto num_here = std::count_if(misses.begin(), misses.end(), [this](const Miss& miss) {
    return is_asked(miss) && is_here(miss.expert);
  });
  int64_t room = num_blocks_ - num_here;
  std::vector<size_t> chosen;
  std::vector<int32_t> experts;
  for (size_t i = 0; i < misses.size(); ++i) {
    if (!is_asked(misses[i])) continue;
    if (!is_here(misses[i].expert) && room-- <= 0) continue;
    chosen.push_back(i);
    experts.push_back(misses[i].expert);
  }
  const std::vector<ExpertPlace>& found =
      policy_->plan(0, experts.data(), static_cast<int64_t>(experts.size()));
  for (size_t i = 0; i < found.size(); ++i) places_[chosen[i]] = {found[i].slot, found[i].is_hit};
  return places_;
}

void HostPolicy::forget(int32_t expert) {
  if (policy_ != nullptr) policy_->forget(0, expert);
}

}  // namespace sparse_experts::engine
