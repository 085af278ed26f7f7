// A forward in steps: what the ABI's forward_begin to forward_end are on this device. The host waits
// once for the routing, because it has to know which experts are needed, and once for each wave's
// results; what lies between is queued on the layer's stream, and waited for only where the memory of
// an expert is taken away (Layer::set_experts) or the slot rows are the caller's.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/layer/forward.h"
#include "cuda/layer/forward_wave.h"
#include "cuda/layer/layer.h"
#include "cuda/layer/run_arrays.h"
#include "ops/taken_experts.h"

struct SeForwardRun {
 public:
  // Of a call that Layer::plan_call has let pass.
  SeForwardRun(sparse_experts::cuda::Layer& layer, const SeForwardArgs& args,
               const sparse_experts::cuda::ForwardPlan& plan, char* workspace);
  // Waits for what is queued.
  ~SeForwardRun();
  SeForwardRun(const SeForwardRun&) = delete;
  SeForwardRun& operator=(const SeForwardRun&) = delete;

  sparse_experts::cuda::Device& device() const { return layer_.device(); }

  sparse_experts::Status begin();
  sparse_experts::Status next_wave(SeForwardWave* wave);
  // experts NULL: all whose rows are not there yet.
  sparse_experts::Status run_experts(const int32_t* experts, int64_t num_experts);
  sparse_experts::Status slot_rows(const int32_t* experts, int64_t num_experts, SeTensor* rows);
  sparse_experts::Status finish();

 private:
  sparse_experts::Status check_wave() const;
  sparse_experts::Status ok_or_cancelled() const;
  // What was queued in part leaves the run without a way on.
  sparse_experts::Status keep(const sparse_experts::Status& queued);
  sparse_experts::Status route();
  void count_slots();
  bool has_slots(size_t expert) const { return offsets_[expert + 1] > offsets_[expert]; }
  // Of experts that are here and have slots.
  sparse_experts::Status queue_experts(const std::vector<int32_t>& active);

  sparse_experts::cuda::Layer& layer_;
  const SeForwardArgs args_;
  const sparse_experts::cuda::ForwardPlan plan_;
  sparse_experts::cuda::RunArrays call_;
  sparse_experts::cuda::ForwardQueue queue_;
  sparse_experts::cuda::ForwardArrays arrays_;
  std::optional<sparse_experts::cuda::ForwardWave> wave_;  // that has begun and not ended
  std::vector<int32_t> offsets_;                           // [experts + 1] of the wave
  sparse_experts::TakenExperts taken_;                     // of the wave
  size_t num_active_ = 0;                                  // experts of the wave that have slots
  int64_t next_token_ = 0;
  sparse_experts::Status failure_;  // of what was queued
};
