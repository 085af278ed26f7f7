#include "engine/expert_affinity.h"

#include <algorithm>

namespace sparse_experts::engine {

int32_t ExpertAffinity::add_layer(int32_t num_experts) {
  layers_.push_back({num_experts, {}});
  return static_cast<int32_t>(layers_.size()) - 1;
}

const std::vector<int32_t>& ExpertAffinity::saw(int32_t layer,
                                                const std::vector<int32_t>& experts) {
  if (last_layer_ >= 0 && last_layer_ == layer - 1) count(layer, experts);
  last_layer_ = layer;
  last_ = experts;
  expected_.clear();
  const auto next = static_cast<size_t>(layer) + 1;
  if (next == layers_.size() || layers_[next].pairs.empty()) return expected_;
  const auto num_experts = static_cast<size_t>(layers_[next].num_experts);
  sums_.assign(num_experts, 0);
  for (const int32_t expert : experts) {
    const uint16_t* row = &layers_[next].pairs[static_cast<size_t>(expert) * num_experts];
    for (size_t other = 0; other < num_experts; ++other) sums_[other] += row[other];
  }
  for (size_t other = 0; other < num_experts; ++other)
    if (sums_[other] > 0) expected_.push_back(static_cast<int32_t>(other));
  std::stable_sort(expected_.begin(), expected_.end(), [&](int32_t a, int32_t b) {
    return sums_[static_cast<size_t>(a)] > sums_[static_cast<size_t>(b)];
  });
  return expected_;
}

void ExpertAffinity::count(int32_t layer, const std::vector<int32_t>& experts) {
  Layer& own = layers_[static_cast<size_t>(layer)];
  const auto num_experts = static_cast<size_t>(own.num_experts);
  if (own.pairs.empty()) {
    const auto before = static_cast<size_t>(layers_[static_cast<size_t>(layer) - 1].num_experts);
    own.pairs.resize(before * num_experts);
  }
  bool is_full = false;
  for (const int32_t before : last_) {
    uint16_t* row = &own.pairs[static_cast<size_t>(before) * num_experts];
    for (const int32_t expert : experts) {
      uint16_t& pairs = row[static_cast<size_t>(expert)];
      ++pairs;
      is_full = is_full || pairs == kMostPairs;
    }
  }
  if (is_full)
    for (uint16_t& pairs : own.pairs) pairs = static_cast<uint16_t>(pairs / 2);
}

}  // namespace sparse_experts::engine
