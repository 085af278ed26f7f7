#include "engine/ranked_forward.h"

#include <cstring>
#include <utility>

namespace sparse_experts::engine {

RankedForward::RankedForward(std::shared_ptr<LayerState> layer, const SeForwardArgs& args)
    : layer_(std::move(layer)), args_(args) {
  args_.cancel = reinterpret_cast<const int32_t*>(&cancel_);
}

RankedForward::~RankedForward() { end_run(); }

void RankedForward::step(RunWorkspaces& workspaces, const std::vector<int32_t>& owner_of,
                         int32_t rank, const std::function<void()>& ask) noexcept {
  try {
    if (cancel_.load(std::memory_order_relaxed) != 0)
      throw_if_failed(Failure::from(Status::cancelled()));
    if (run_ != nullptr) {
      take_rows();
      finish_wave();
    } else if (args_.select.num_tokens > 0) {
      begin(workspaces);
    }
    while (run_ != nullptr && next_wave(owner_of, rank)) {
      // First the others begin, then this rank.
      if (!split_.parts.empty()) ask();
      compute_own();
      if (!split_.parts.empty()) return;
      finish_wave();
    }
  } catch (...) {
    failure_ = current_failure();
  }
  end_run();
  has_ended_ = true;
}

void RankedForward::begin(RunWorkspaces& workspaces) {
  workspaces_ = &workspaces;
  const uint64_t bytes = layer_->run_bytes(LayerState::RunKind::kWhole, args_.select.num_tokens);
  workspace_ = workspaces.take(layer_->shared_executor(), bytes);
  run_ = layer_->begin_run(LayerState::RunKind::kWhole, args_, workspace_->data(),
                           workspace_->bytes());
}

// False: all tokens have been computed.
bool RankedForward::next_wave(const std::vector<int32_t>& owner_of, int32_t rank) {
  SeForwardWave wave = {};
  layer_->executor().step([&](const SeBackend& backend, SeStatus* status) {
    return backend.forward_wave(run_, &wave, status);
  });
  if (wave.num_tokens == 0) return false;
  split_ = split_wave(wave, args_.select, layer_->layer().routing.top_k, owner_of, rank);
  return true;
}

void RankedForward::compute_own() {
  if (split_.own_experts.empty()) return;
  layer_->executor().step([&](const SeBackend& backend, SeStatus* status) {
    return backend.forward_experts(run_, split_.own_experts.data(),
                                   static_cast<int64_t>(split_.own_experts.size()), status);
  });
}

void RankedForward::take_rows() {
  SeTensor rows = {};
  layer_->executor().step([&](const SeBackend& backend, SeStatus* status) {
    return backend.forward_slot_rows(run_, split_.other_experts.data(),
                                     static_cast<int64_t>(split_.other_experts.size()), &rows,
                                     status);
  });
  const int64_t width = rows.shape[1];
  for (size_t p = 0; p < split_.parts.size(); ++p) {
    const float* from = rows_[p];
    for (const int64_t row : split_.parts[p].slot_rows) {
      std::memcpy(static_cast<float*>(rows.data) + row * rows.strides[0], from,
                  static_cast<size_t>(width) * sizeof(float));
      from += width;
    }
  }
}

void RankedForward::finish_wave() {
  layer_->executor().step([&](const SeBackend& backend, SeStatus* status) {
    return backend.forward_finish(run_, status);
  });
}

void RankedForward::end_run() noexcept {
  if (run_ != nullptr) layer_->executor().backend().forward_end(std::exchange(run_, nullptr));
  if (workspaces_ != nullptr) workspaces_->give_back(std::move(workspace_));
  workspaces_ = nullptr;
}

}  // namespace sparse_experts::engine
