#include "engine/layer_sequence.h"

#include "engine/expert_cache.h"

namespace sparse_experts::engine {

int32_t LayerSequence::join(ExpertCache* cache, LayerState* layer, int32_t num_experts) {
  const std::lock_guard<std::mutex> lock(mutex_);
  members_.push_back({cache, layer});
  return affinity_.add_layer(num_experts);
}

void LayerSequence::leave(int32_t number) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  members_[static_cast<size_t>(number)] = {};
}

void LayerSequence::saw(int32_t number, const std::vector<int32_t>& experts) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::vector<int32_t>& expected = affinity_.saw(number, experts);
  const auto next = static_cast<size_t>(number) + 1;
  if (expected.empty() || members_[next].cache == nullptr) return;
  members_[next].cache->prefetch(*members_[next].layer, expected);
}

void LayerSequence::pause() {
  const std::lock_guard<std::mutex> lock(mutex_);
  affinity_.pause();
}

}  // namespace sparse_experts::engine
