#include "cpu/forward_run.h"

#include <utility>
#include <vector>

#include "cpu/forward.h"
#include "cpu/phase_times.h"
#include "ops/checks.h"

using sparse_experts::Status;
using sparse_experts::TakenExperts;
using sparse_experts::cpu::ExpertChoice;
using sparse_experts::cpu::ForwardWave;
using sparse_experts::cpu::PhaseClock;

SeForwardRun::SeForwardRun(SeLayer* layer, const SeForwardArgs& args, char* workspace)
    : layer_(layer),
      args_(args),
      context_(layer->device, args.num_threads, args.cancel),
      workspace_(workspace) {}

Status SeForwardRun::ok_or_cancelled() const {
  return context_.is_cancelled() ? Status::cancelled() : Status::ok();
}

Status SeForwardRun::begin(uint64_t workspace_bytes) {
  if (args_.select.num_tokens == 0) return Status::ok();
  SE_RETURN_IF_ERROR(sparse_experts::cpu::plan_call(context_, *layer_, args_, workspace_,
                                                    workspace_bytes, &plan_));
  sparse_experts::cpu::take_routing(context_, layer_, args_, plan_, workspace_);
  return ok_or_cancelled();
}

Status SeForwardRun::next_wave(SeForwardWave* wave) {
  SE_CHECK_ARGUMENT(!wave_.has_value(), "forward_wave: the last wave is not finished");
  *wave = {next_token_, 0, nullptr};
  if (next_token_ >= args_.select.num_tokens) return Status::ok();
  PhaseClock clock(&layer_->phases);
  wave_.emplace(context_, *layer_, args_, plan_, workspace_, next_token_);
  wave_->begin(&clock);
  taken_ = TakenExperts(layer_->layer.experts.num_experts);
  *wave = {next_token_, wave_->num_tokens(), wave_->expert_offsets()};
  return ok_or_cancelled();
}

Status SeForwardRun::check_wave() const {
  SE_CHECK_ARGUMENT(wave_.has_value(), "forward: the run has no wave that has begun");
  return Status::ok();
}

Status SeForwardRun::run_experts(const int32_t* experts, int64_t num_experts) {
  SE_RETURN_IF_ERROR(check_wave());
  std::vector<int32_t> missing;
  if (experts == nullptr) {
    missing = taken_.missing();
    experts = missing.data();
    num_experts = static_cast<int64_t>(missing.size());
  }
  const ExpertChoice choice = {experts, num_experts};
  TakenExperts taken;
  SE_RETURN_IF_ERROR(taken_.with(experts, num_experts, &taken));
  SE_RETURN_IF_ERROR(sparse_experts::cpu::check_present(*wave_, choice));
  taken_ = std::move(taken);
  PhaseClock clock(&layer_->phases);
  wave_->run_experts(choice, &clock);
  return ok_or_cancelled();
}

Status SeForwardRun::slot_rows(const int32_t* experts, int64_t num_experts, SeTensor* rows) {
  SE_RETURN_IF_ERROR(check_wave());
  TakenExperts taken;
  SE_RETURN_IF_ERROR(taken_.with(experts, num_experts, &taken));
  taken_ = std::move(taken);
  // Row = slot.
  *rows = sparse_experts::rows_tensor(
      wave_->slot_rows(), SE_F32, wave_->num_tokens() * layer_->layer.routing.top_k, plan_.width);
  return Status::ok();
}

Status SeForwardRun::finish() {
  SE_RETURN_IF_ERROR(check_wave());
  SE_RETURN_IF_ERROR(
      taken_.check_complete([&](size_t e) { return wave_->has_slots(static_cast<int64_t>(e)); }));
  SE_RETURN_IF_ERROR(ok_or_cancelled());
  PhaseClock clock(&layer_->phases);
  wave_->finish(&clock);
  next_token_ += wave_->num_tokens();
  wave_.reset();
  return ok_or_cancelled();
}
