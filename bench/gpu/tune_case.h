// The two expert matmuls of one shape at one number of tokens, each launched by itself on the lists and
// tiles that dispatch makes: what a sweep over configurations times.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "abi/backend.h"
#include "bench_layer.h"
#include "cuda/layer/weight_maps.h"
#include "cuda/ops/expert_matmul.h"
#include "cuda/runtime/device.h"
#include "replay.h"

namespace sparse_experts::bench {

enum class Matmul { kGateUp, kDown };

// Ids of [num_tokens, top_k]: k different experts for each token, all alike, or (zipf) expert number r
// of a fixed random order as often as 1 / (1 + r).
std::vector<int32_t> draw_ids(const Shape& shape, int64_t num_tokens, bool zipf);

class TuneCase {
 public:
  TuneCase(SeDevice& device, const Shape& shape, const BenchLayer& weights, int64_t num_tokens,
           bool zipf);
  ~TuneCase();
  TuneCase(const TuneCase&) = delete;
  TuneCase& operator=(const TuneCase&) = delete;

  // As a forward of the layer would state it.
  cuda::MatmulShape shape(Matmul matmul) const;
  // Of one launch, by a graph of `launches` of them which read the copies of the weights in turn: the
  // times of `replays` replays. Fewer where the first is worse than `hopeless`. Empty: the launch was refused.
  std::vector<double> microseconds(Matmul matmul, const cuda::MatmulConfig& config, int launches,
                                   int replays, double hopeless);

 private:
  cuda::ExpertMatmulKernelArgs arguments(Matmul matmul, int copy) const;
  // Lists, and the records of tiles of so many tokens.
  void dispatch(int32_t tile_tokens);

  SeDevice& device_;
  const Shape& shape_;
  const BenchLayer& weights_;
  const int64_t num_tokens_;
  const int64_t num_slots_;
  std::vector<std::unique_ptr<cuda::WeightMaps>> maps_;  // one for each copy of the weights
  DeviceMemory ids_, slot_weights_, offsets_, slots_, tiles_, num_tiles_, scratch_;
  DeviceMemory hidden_, expert_hidden_, expert_output_, shared_hidden_, shared_output_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace sparse_experts::bench
