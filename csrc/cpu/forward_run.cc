#include "cpu/forward_run.h"

#include <string>

#include "cpu/forward.h"
#include "cpu/phase_times.h"
#include "ops/checks.h"

using sparse_experts::Status;
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
  taken_.assign(static_cast<size_t>(layer_->layer.experts.num_experts), 0);
  *wave = {next_token_, wave_->num_tokens(), wave_->expert_offsets()};
  return ok_or_cancelled();
}

Status SeForwardRun::check_wave() const {
  SE_CHECK_ARGUMENT(wave_.has_value(), "forward: the run has no wave that has begun");
  return Status::ok();
}

Status SeForwardRun::take(const int32_t* experts, int64_t num_experts,
                          std::vector<uint8_t>* taken) const {
  *taken = taken_;
  for (int64_t i = 0; i < num_experts; ++i) {
    const int32_t expert = experts[i];
    SE_CHECK_ARGUMENT(expert >= 0 && expert < layer_->layer.experts.num_experts,
                      "forward: there is no expert " + std::to_string(expert));
    uint8_t& is_taken = (*taken)[static_cast<size_t>(expert)];
    SE_CHECK_ARGUMENT(is_taken == 0, "forward: the rows of expert " + std::to_string(expert) +
                                         " are there already");
    is_taken = 1;
  }
  return Status::ok();
}

Status SeForwardRun::run_experts(const int32_t* experts, int64_t num_experts) {
  SE_RETURN_IF_ERROR(check_wave());
  std::vector<int32_t> missing;
  if (experts == nullptr) {
    for (size_t e = 0; e < taken_.size(); ++e)
      if (taken_[e] == 0) missing.push_back(static_cast<int32_t>(e));
    experts = missing.data();
    num_experts = static_cast<int64_t>(missing.size());
  }
  const ExpertChoice choice = {experts, num_experts};
  std::vector<uint8_t> taken;
  SE_RETURN_IF_ERROR(take(experts, num_experts, &taken));
  SE_RETURN_IF_ERROR(sparse_experts::cpu::check_present(*wave_, choice));
  taken_.swap(taken);
  PhaseClock clock(&layer_->phases);
  wave_->run_experts(choice, &clock);
  return ok_or_cancelled();
}

Status SeForwardRun::slot_rows(const int32_t* experts, int64_t num_experts, SeTensor* rows) {
  SE_RETURN_IF_ERROR(check_wave());
  std::vector<uint8_t> taken;
  SE_RETURN_IF_ERROR(take(experts, num_experts, &taken));
  taken_.swap(taken);
  *rows = SeTensor{};
  rows->data = wave_->slot_rows();
  rows->dtype = SE_F32;
  rows->rank = 2;
  rows->shape[0] = wave_->num_tokens() * layer_->layer.routing.top_k;
  rows->shape[1] = rows->strides[0] = plan_.width;
  rows->strides[1] = 1;
  return Status::ok();
}

Status SeForwardRun::finish() {
  SE_RETURN_IF_ERROR(check_wave());
  for (size_t e = 0; e < taken_.size(); ++e) {
    if (taken_[e] == 0 && wave_->has_slots(static_cast<int64_t>(e)))
      return {SE_INTERNAL,
              "forward_finish: expert " + std::to_string(e) + " has not been computed"};
  }
  SE_RETURN_IF_ERROR(ok_or_cancelled());
  PhaseClock clock(&layer_->phases);
  wave_->finish(&clock);
  next_token_ += wave_->num_tokens();
  wave_.reset();
  return ok_or_cancelled();
}
