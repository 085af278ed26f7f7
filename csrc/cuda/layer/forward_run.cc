#include "cuda/layer/forward_run.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "cuda/runtime/device.h"
#include "ops/checks.h"

using sparse_experts::Status;
using sparse_experts::TakenExperts;
using sparse_experts::cuda::ForwardPlan;
using sparse_experts::cuda::Layer;

SeForwardRun::SeForwardRun(Layer& layer, const SeForwardArgs& args, const ForwardPlan& plan,
                           char* workspace)
    : layer_(layer),
      args_(args),
      plan_(plan),
      call_(layer.device_, layer.layer_, args_, layer.stream_),
      queue_(layer.queue_of(plan_, workspace, false)) {}

SeForwardRun::~SeForwardRun() {
  const std::lock_guard<std::mutex> lock(layer_.mutex_);
  static_cast<void>(layer_.settle());
}

Status SeForwardRun::ok_or_cancelled() const {
  return sparse_experts::cuda::is_cancelled(args_) ? Status::cancelled() : Status::ok();
}

Status SeForwardRun::keep(const Status& queued) {
  if (!queued.is_ok()) failure_ = queued;
  return queued;
}

Status SeForwardRun::begin() {
  if (args_.select.num_tokens == 0) return Status::ok();
  SE_RETURN_IF_ERROR(layer_.check_staged(args_, call_.plan()));
  const std::lock_guard<std::mutex> lock(layer_.mutex_);
  const uint64_t bytes = call_.plan().total_bytes;
  if (call_.is_small()) {
    SE_RETURN_IF_ERROR(layer_.reserve_staging(bytes, args_.is_staged != 0));
    call_.place(layer_.block_of(args_), device().call_staging().block());
  } else {
    SE_RETURN_IF_ERROR(device().bulk().reserve(bytes));
    call_.place(nullptr, device().bulk().data());
  }
  arrays_ = call_.on_device();
  SE_RETURN_IF_ERROR(layer_.finish(route()));
  SE_RETURN_IF_ERROR(call_.take_routing());
  return ok_or_cancelled();
}

Status SeForwardRun::route() {
  SE_RETURN_IF_ERROR(call_.bring_in());
  SE_RETURN_IF_ERROR(sparse_experts::cuda::queue_routing(queue_, args_, arrays_));
  return call_.queue_routing();
}

// What the device's sort of the wave's slots will say, from the routing that has come back.
void SeForwardRun::count_slots() {
  const int64_t num_experts = layer_.layer_.experts.num_experts;
  const int64_t top_k = layer_.layer_.routing.top_k;
  const int64_t first = wave_->first_token();
  offsets_.assign(static_cast<size_t>(num_experts) + 1, 0);
  for (int64_t token = first; token < first + wave_->num_tokens(); ++token) {
    if (call_.non_finite() != nullptr && call_.non_finite()[token] != 0) continue;
    for (int64_t slot = token * top_k; slot < (token + 1) * top_k; ++slot) {
      const int32_t expert = call_.topk_ids()[slot];
      if (expert >= 0 && expert < num_experts && layer_.counts(expert))
        ++offsets_[static_cast<size_t>(expert) + 1];
    }
  }
  num_active_ = static_cast<size_t>(
      std::count_if(offsets_.begin(), offsets_.end(), [](int32_t count) { return count > 0; }));
  for (size_t e = 1; e < offsets_.size(); ++e) offsets_[e] += offsets_[e - 1];
}

Status SeForwardRun::next_wave(SeForwardWave* wave) {
  SE_RETURN_IF_ERROR(failure_);
  SE_CHECK_ARGUMENT(!wave_.has_value(), "forward_wave: the last wave is not finished");
  *wave = {next_token_, 0, nullptr};
  const int64_t left = args_.select.num_tokens - next_token_;
  if (left <= 0) return Status::ok();
  SE_RETURN_IF_ERROR(ok_or_cancelled());
  const std::lock_guard<std::mutex> lock(layer_.mutex_);
  wave_.emplace(queue_, arrays_, next_token_, std::min(plan_.wave_tokens, left));
  count_slots();
  taken_ = TakenExperts(layer_.layer_.experts.num_experts);
  queue_.follows_kernel = false;
  layer_.has_queued_ = true;
  SE_RETURN_IF_ERROR(keep(wave_->begin()));
  *wave = {next_token_, wave_->num_tokens(), offsets_.data()};
  return Status::ok();
}

Status SeForwardRun::check_wave() const {
  SE_RETURN_IF_ERROR(failure_);
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
  TakenExperts taken;
  SE_RETURN_IF_ERROR(taken_.with(experts, num_experts, &taken));
  const std::lock_guard<std::mutex> lock(layer_.mutex_);
  std::vector<int32_t> active;
  for (int64_t i = 0; i < num_experts; ++i) {
    if (!has_slots(static_cast<size_t>(experts[i]))) continue;
    if (layer_.is_cached() && !layer_.expert_tables_.is_present(experts[i]))
      return {SE_INTERNAL,
              "forward: expert " + std::to_string(experts[i]) + " is needed and not here"};
    active.push_back(experts[i]);
  }
  SE_RETURN_IF_ERROR(ok_or_cancelled());
  taken_ = std::move(taken);
  if (active.empty()) return Status::ok();
  return keep(queue_experts(active));
}

Status SeForwardRun::queue_experts(const std::vector<int32_t>& active) {
  layer_.has_queued_ = true;
  bool has_copied = false;
  if (layer_.is_cached())
    SE_RETURN_IF_ERROR(layer_.expert_tables_.bring_up_to_date(layer_.stream_, &has_copied));
  bool has_waited = false;
  SE_RETURN_IF_ERROR(device().filler().precede(layer_.stream_, &has_waited));
  if (has_copied || has_waited) queue_.follows_kernel = false;
  // As the wave began, its slots are sorted for all of its experts.
  if (active.size() == num_active_) return wave_->run_all();
  sparse_experts::cuda::MirroredBlock& chosen = layer_.chosen_;
  const uint64_t bytes = taken_.num_experts() * sizeof(void*);
  if (!chosen.is_open()) SE_RETURN_IF_ERROR(chosen.open(bytes));
  char* host = nullptr;
  SE_RETURN_IF_ERROR(chosen.edit(&host));
  std::memset(host, 0, bytes);
  // Only whether an entry is null says something.
  for (const int32_t expert : active) reinterpret_cast<const void**>(host)[expert] = host;
  SE_RETURN_IF_ERROR(chosen.upload(0, bytes, layer_.stream_));
  queue_.follows_kernel = false;
  return wave_->run_chosen(reinterpret_cast<const void* const*>(chosen.device()));
}

Status SeForwardRun::slot_rows(const int32_t* experts, int64_t num_experts, SeTensor* rows) {
  SE_RETURN_IF_ERROR(check_wave());
  TakenExperts taken;
  SE_RETURN_IF_ERROR(taken_.with(experts, num_experts, &taken));
  const std::lock_guard<std::mutex> lock(layer_.mutex_);
  SE_RETURN_IF_ERROR(keep(layer_.settle()));
  queue_.follows_kernel = false;
  taken_ = std::move(taken);
  // Row = slot.
  *rows = sparse_experts::rows_tensor(
      wave_->slot_rows(), SE_F32, wave_->num_tokens() * layer_.layer_.routing.top_k, plan_.width);
  return Status::ok();
}

Status SeForwardRun::finish() {
  SE_RETURN_IF_ERROR(check_wave());
  SE_RETURN_IF_ERROR(taken_.check_complete([&](size_t e) { return has_slots(e); }));
  SE_RETURN_IF_ERROR(ok_or_cancelled());
  const std::lock_guard<std::mutex> lock(layer_.mutex_);
  const int64_t first = wave_->first_token();
  const int64_t count = wave_->num_tokens();
  Status queued = wave_->finish();
  if (queued.is_ok()) queued = call_.queue_rows(first, count);
  SE_RETURN_IF_ERROR(keep(layer_.finish(queued)));
  SE_RETURN_IF_ERROR(keep(call_.take_rows(first, count)));
  next_token_ += count;
  wave_.reset();
  return ok_or_cancelled();
}

namespace sparse_experts::cuda {

// What a cached layer's forward is: its experts may be absent, which the host has to see.
Status Layer::run_steps(const SeForwardArgs& args, char* workspace, const ForwardPlan& plan) {
  SeForwardRun run(*this, args, plan, workspace);
  SE_RETURN_IF_ERROR(run.begin());
  for (SeForwardWave wave = {};;) {
    SE_RETURN_IF_ERROR(run.next_wave(&wave));
    if (wave.num_tokens == 0) return Status::ok();
    SE_RETURN_IF_ERROR(run.run_experts(nullptr, 0));
    SE_RETURN_IF_ERROR(run.finish());
  }
}

}  // namespace sparse_experts::cuda
