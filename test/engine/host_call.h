// A forward over arrays of its own, for layers of any size.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/layer_task.h"

namespace engine_test {

using namespace sparse_experts::engine;

class HostCall : public LayerTask {
 public:
  // `rows` are of the layer's hidden size. The results hold what no forward writes, until one has.
  HostCall(std::shared_ptr<LayerState> of, std::vector<float> rows, bool may_join = true)
      : LayerTask(std::move(of), may_join),
        hidden(std::move(rows)),
        output(hidden.size(), -1),
        ids(static_cast<size_t>(rows_of(hidden) * layer()->layer().routing.top_k), -7),
        weights(ids.size(), -7),
        flags(static_cast<size_t>(rows_of(hidden)), 9) {
    // An array without elements is there all the same.
    for (std::vector<float>* floats : {&hidden, &output, &weights}) floats->reserve(1);
    ids.reserve(1);
    flags.reserve(1);
    for (SeTensor* tensor : {&args_.hidden, &args_.router_input, &args_.output}) {
      tensor->dtype = SE_F32;
      tensor->rank = 2;
      tensor->shape[0] = rows_of(hidden);
      tensor->shape[1] = tensor->strides[0] = layer()->layer().hidden_size;
      tensor->strides[1] = 1;
    }
    args_.hidden.data = hidden.data();
    args_.output.data = output.data();
    args_.select.num_tokens = rows_of(hidden);
    args_.select.call_top_k = layer()->layer().routing.top_k;
    args_.select.top_p = 1;
    args_.select.topk_ids = ids.data();
    args_.select.topk_weights = weights.data();
    args_.select.non_finite = flags.data();
    args_.cancel = reinterpret_cast<const int32_t*>(&cancel);
  }

  SeForwardArgs& args() { return args_; }
  int64_t num_tokens() const { return args_.select.num_tokens; }

  std::vector<float> hidden, output;
  std::vector<int32_t> ids;
  std::vector<float> weights;
  std::vector<uint8_t> flags;

 private:
  void wait_for_inputs() noexcept override {}
  int64_t rows_of(const std::vector<float>& values) const {
    return static_cast<int64_t>(values.size()) / layer()->layer().hidden_size;
  }
};

}  // namespace engine_test
