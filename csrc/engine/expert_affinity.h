// Which experts a layer will need, told from those that the layer before it has just needed: tokens that
// meet an expert in one layer meet some experts of the next more often than others. How often is counted
// as calls come; there is no random number and no clock in here, so that the engine and a simulation
// expect the same.
#pragma once

#include <cstdint>
#include <vector>

namespace sparse_experts::engine {

// At it the counts of a pair of layers are halved, and rounded down: old habits fade.
constexpr uint16_t kMostPairs = 65535;

class ExpertAffinity {
 public:
  // Layers in the order in which they run. Returns the layer's number, from 0.
  int32_t add_layer(int32_t num_experts);

  // A call of the layer needs these experts, rising. Where the call before it was one of the layer before
  // it, each pair of their experts is counted. Returns the experts of the next layer that have been
  // counted with one of these, by falling sum of the counts and then rising number; none of the last
  // layer. Valid until the next call.
  const std::vector<int32_t>& saw(int32_t layer, const std::vector<int32_t>& experts);
  // A call that says nothing of the next.
  void pause() { last_layer_ = -1; }

 private:
  struct Layer {
    int32_t num_experts = 0;
    // [num_experts of the layer before, num_experts]; taken with the first pair.
    std::vector<uint16_t> pairs;
  };

  void count(int32_t layer, const std::vector<int32_t>& experts);

  std::vector<Layer> layers_;
  int32_t last_layer_ = -1;
  std::vector<int32_t> last_;  // that its call needed
  std::vector<int32_t> expected_;
  std::vector<uint64_t> sums_;
};

}  // namespace sparse_experts::engine
