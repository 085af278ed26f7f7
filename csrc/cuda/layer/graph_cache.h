// CUDA graphs of a layer's forwards. A call whose every launch argument was seen before runs the
// same kernels on the same addresses, so what it queues can be recorded once and replayed as one
// submission: the first call with a key runs plainly, the second is captured, later ones replay.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>

#include "abi/backend.h"

namespace sparse_experts::cuda {

class Device;

// All that the launches of a call depend on, besides the layer and the staging memory of its device. Compared as
// bytes: 64-bit members only, so that there is no padding.
struct GraphKey {
  int64_t num_tokens = 0;
  int64_t hidden_dtype = 0;
  int64_t router_input_dtype = 0;
  int64_t device_arrays = 0;
  int64_t present_arrays = 0;  // bits: router_input, row_top_k, sequence_lengths, row_top_p
  int64_t num_sequences = 0;
  int64_t replay = 0;
  int64_t call_top_k = 0;
  uint64_t top_p = 0;   // bits of the double
  uint64_t hidden = 0;  // device arrays: address and row stride; else 0
  int64_t hidden_stride = 0;
  uint64_t router_input = 0;
  int64_t router_input_stride = 0;
  uint64_t output = 0;
  int64_t output_stride = 0;
  uint64_t workspace = 0;
  uint64_t block = 0;  // pinned memory of the call
};

GraphKey make_graph_key(const SeForwardArgs& args, const void* workspace, const void* block);

class GraphCache {
 public:
  enum class Action {
    kPlain,    // queue the launches
    kCapture,  // record them, then store() or forbid()
    kReplay    // launch the graph
  };
  struct Entry {
    GraphKey key;
    uint64_t last_use = 0;  // 0: free
    bool is_forbidden = false;
    cudaGraphExec_t graph = nullptr;
  };

  explicit GraphCache(Device& device) : device_(device) {}
  ~GraphCache() { clear(); }
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  // What to do with a call; its entry becomes the newest.
  Action look_up(const GraphKey& key, Entry** entry);
  // Forgets all: the memory that the graphs name has moved.
  void clear();

 private:
  static constexpr size_t kNumEntries = 8;
  void release(Entry* entry);

  Device& device_;
  std::array<Entry, kNumEntries> entries_;
  uint64_t clock_ = 0;
};

}  // namespace sparse_experts::cuda
