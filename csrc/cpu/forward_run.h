// A forward in steps: what the ABI's forward_begin to forward_end are on this device. The arguments of
// begin have passed ops/contract.h; each call holds the device.
#pragma once

#include <memory>
#include <optional>

#include "abi/backend.h"
#include "core/status.h"
#include "cpu/device.h"
#include "cpu/forward_plan.h"
#include "cpu/forward_wave.h"
#include "ops/taken_experts.h"

struct SeForwardRun {
 public:
  SeForwardRun(SeLayer* layer, const SeForwardArgs& args, char* workspace);

  SeDevice* device() const { return layer_->device; }

  sparse_experts::Status begin(uint64_t workspace_bytes);
  sparse_experts::Status next_wave(SeForwardWave* wave);
  // experts NULL: all whose rows are not there yet.
  sparse_experts::Status run_experts(const int32_t* experts, int64_t num_experts);
  sparse_experts::Status slot_rows(const int32_t* experts, int64_t num_experts, SeTensor* rows);
  sparse_experts::Status finish();

 private:
  sparse_experts::Status check_wave() const;
  sparse_experts::Status ok_or_cancelled() const;

  SeLayer* const layer_;
  const SeForwardArgs args_;
  const sparse_experts::cpu::RunContext context_;
  char* const workspace_;
  sparse_experts::cpu::ForwardPlan plan_;
  std::optional<sparse_experts::cpu::ForwardWave> wave_;  // that has begun and not ended
  sparse_experts::TakenExperts taken_;                    // of the wave
  int64_t next_token_ = 0;
};
