// One shape at one number of tokens on the GPU: its arrays and stream, forwards queued as the
// library queues them, and what their replays take.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "abi/backend.h"
#include "bench_layer.h"
#include "cuda/layer/forward_plan.h"
#include "cuda/layer/weight_maps.h"
#include "cuda/runtime/device.h"
#include "replay.h"

namespace sparse_experts::bench {

// Ends the program with the backend's words; with 3 where there is no device.
void require(int32_t code, const SeStatus& status, const char* what);

// The first device, current on this thread.
SeDevice& open_device(const SeBackend& backend);

std::vector<std::string> split(const std::string& text, char separator);
// 1,64,4096
std::vector<int64_t> parse_numbers(const std::string& text);
// NAME:H:I:E:K:SHARED
bool parse_shape(const std::string& text, Shape* shape);

// Arrays of one call.
struct CallArrays {
  CallArrays(const Shape& shape, int64_t num_tokens, uint64_t workspace_bytes);
  DeviceMemory hidden, output, ids, weights, non_finite, workspace;
};

class BenchCase {
 public:
  BenchCase(const SeBackend& backend, SeDevice& device, const Shape& shape,
            const BenchLayer& weights, int64_t num_tokens, const SeLayerOptions& options = {});
  ~BenchCase();
  BenchCase(const BenchCase&) = delete;
  BenchCase& operator=(const BenchCase&) = delete;

  // A graph of successive forwards.
  std::unique_ptr<Replay> record(int forwards, int copies);
  // Microseconds of one forward; `copies` of the weights are read in turn.
  double graph_microseconds(int forwards, int copies, int replays);

  // Microseconds of each kernel of a forward: a graph of that kernel alone, once per forward, so
  // its weights are as cold as in the layer. Empty where graphs cannot be taken apart.
  std::vector<std::pair<std::string, double>> kernel_microseconds(int forwards, int copies,
                                                                  int replays);

  // Wall time of a call through the ABI, the backend's own graphs and waits included.
  double host_microseconds(int calls);

  void run_once();
  // Experts that have a token, after any forward.
  int64_t experts_hit() const;
  void dump(const std::string& directory, const std::string& routing) const;

  // Of one token, after any forward.
  struct Row {
    std::vector<uint16_t> hidden, output;  // bf16
    std::vector<int32_t> ids;
    std::vector<float> weights;
  };
  Row row(int64_t token) const;

 private:
  SeTensor tensor(void* data) const;
  SeForwardArgs scalars() const;
  void queue(int copy);
  cudaGraph_t capture(int forwards, int copies);

  const SeBackend& backend_;
  SeDevice& device_;
  const Shape& shape_;
  const BenchLayer& weights_;
  const int64_t num_tokens_;
  const SeLayerOptions options_;
  // One for each copy of the weights.
  std::vector<std::unique_ptr<cuda::WeightMaps>> maps_;
  const cuda::ForwardPlan plan_;
  CallArrays arrays_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace sparse_experts::bench
