// Cached layers of a model on one device, in the order in which they run: what a call of one of them
// needs tells which experts the next is to have read ahead.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "engine/expert_affinity.h"

namespace sparse_experts::engine {

class ExpertCache;
class LayerState;

class LayerSequence {
 public:
  // The layer runs after all that have joined. Returns its number.
  int32_t join(ExpertCache* cache, LayerState* layer, int32_t num_experts);
  // The layer is about to go. Returns when nothing uses it here any more. Any thread.
  void leave(int32_t number) noexcept;
  // A call of the layer needs these experts, which rise, and has asked for those that were missing. Only
  // while running on the device. Throws FailureException.
  void saw(int32_t number, const std::vector<int32_t>& experts);
  // A call of the layer needs more than is worth telling.
  void pause();

 private:
  struct Member {
    ExpertCache* cache;  // null: it has left
    LayerState* layer;
  };

  std::mutex mutex_;
  ExpertAffinity affinity_;
  std::vector<Member> members_;
};

}  // namespace sparse_experts::engine
