// A layer made ready on a device: its description, and what its calls need each time, kept between
// them: stream, event, graphs.
//
// A call in steps: check what the host can read; bring host arrays into the staging block; copy it,
// compute, copy results back, all on the layer's stream; wait once; hand the results out. A small
// call's block is the device's and stays where it is, so that graphs can name it; stage() lends
// one to the caller, so that the first and the last step have nothing to copy. A large call
// copies array by array through the device's copier into memory that all layers share too, one such
// call at a time. A forward in steps is a run (forward_run.h), which a cached layer takes for each call.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/layer/expert_tables.h"
#include "cuda/layer/forward.h"
#include "cuda/layer/graph_cache.h"
#include "cuda/layer/staging_plan.h"
#include "cuda/layer/weight_maps.h"
#include "cuda/runtime/memory.h"
#include "cuda/runtime/mirrored_block.h"

struct SeForwardRun;

namespace sparse_experts::cuda {

class Device;

// How long a call asks for its end before its thread sleeps, given how long the one before waited: to
// be woken takes some 50 us, as long as a short call itself. Twice the last wait, and not at all where
// that was so long that the wake-up is less than a twentieth of it: then the core is worth more.
std::chrono::nanoseconds poll_time(std::chrono::nanoseconds last_wait);

class Layer {
 public:
  Layer(Device& device, const SeMoeLayer& layer, const SeLayerOptions& options);
  ~Layer();
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  // Checks the description and what its tables hold.
  Status open();
  Status forward(const SeForwardArgs& args, void* workspace, uint64_t workspace_bytes);
  // What every call begins with: its checks, and how it is cut. A call of no tokens has no plan.
  Status plan_call(const SeForwardArgs& args, const void* workspace, uint64_t workspace_bytes,
                   ForwardPlan* plan) const;
  // See layer_set_experts of the ABI.
  Status set_experts(const int32_t* experts, int64_t num_experts, const SeExpertMatrices* matrices);
  // See stage_forward of the ABI. Any thread.
  Status stage(SeForwardArgs* args);
  void unstage();
  Device& device() { return device_; }

 private:
  friend struct ::SeForwardRun;

  Status check_tables();
  Status make_present_table(const SeExperts& experts);
  // Whether an expert's slots count: all of them in a cached layer.
  bool counts(int64_t expert) const {
    return is_cached() || here_[static_cast<size_t>(expert)] != 0;
  }
  bool is_cached() const { return options_.cached != 0; }

  Status check_staged(const SeForwardArgs& args, const StagingPlan& staging) const;
  Status run_steps(const SeForwardArgs& args, char* workspace, const ForwardPlan& plan);

  Status run_small(const SeForwardArgs& args, const StagingPlan& staging, const ForwardPlan& plan,
                   char* workspace);
  Status run_large(const SeForwardArgs& args, const StagingPlan& staging, const ForwardPlan& plan,
                   char* workspace);
  Status reserve_staging(uint64_t bytes, bool is_staged);
  // Pinned memory of a small call.
  char* block_of(const SeForwardArgs& args) const;
  Status queue_small(const SeForwardArgs& args, const StagingPlan& staging, const ForwardPlan& plan,
                     char* workspace, bool is_recorded);
  Status capture(const SeForwardArgs& args, const StagingPlan& staging, const ForwardPlan& plan,
                 char* workspace, GraphCache::Entry* entry);
  ForwardQueue queue_of(const ForwardPlan& plan, char* workspace, bool is_recorded) const;
  // Waits whatever the status is: the caller's memory is free to go when a call returns.
  Status finish(const Status& status);
  // Waits for what a run has queued and nobody has waited for.
  Status settle();

  Device& device_;
  SeMoeLayer layer_;
  const SeLayerOptions options_;
  std::mutex mutex_;  // one call at a time
  cudaStream_t stream_ = nullptr;
  cudaEvent_t done_ = nullptr;
  DeviceBuffer present_table_;
  WeightMaps weight_maps_;
  LayerMaps maps_;
  ExpertTables expert_tables_;  // of a cached layer
  MirroredBlock chosen_;        // [experts]: null but for those that a step of a run computes
  const void* const* present_ = nullptr;
  std::vector<uint8_t> here_;  // [experts] what present_ says; empty in a cached layer
  bool has_queued_ = false;    // by a run, since somebody waited last
  GraphCache graphs_;
  uint64_t graphs_generation_ = 0;         // of the staging memory that they name
  std::chrono::nanoseconds last_wait_{0};  // of the call before
};

}  // namespace sparse_experts::cuda

// Opaque to callers.
struct SeLayer : sparse_experts::cuda::Layer {
  using Layer::Layer;
};
