// Layers opened on their device, and those whose experts lie on several ranks: what each of these opens
// besides, and runs of them.
#include "engine/layer.h"

namespace sparse_experts::engine {
namespace {

// What a rank computes for others: slot rows of routed experts. The rest of a call is the caller's.
SeMoeLayer experts_alone(const SeMoeLayer& layer) {
  SeMoeLayer alone = layer;
  alone.shared = {};
  alone.shared_gate_mode = SE_SHARED_PLAIN;
  alone.shared_gate = nullptr;
  alone.shared_logit_bias = nullptr;
  alone.output_bias = nullptr;
  return alone;
}

}  // namespace

void LayerState::check_partial(const LayerDescription& description) const {
  if (!is_partial()) return;
  if (owned_.size() != static_cast<size_t>(description.num_experts))
    fail_argument("Of " + std::to_string(description.num_experts) + " experts, " +
                  std::to_string(owned_.size()) + " are said to be here or elsewhere");
  if (description.cache.is_on())
    fail_argument("A layer whose experts lie on several ranks keeps its own in memory");
  if (!executor_->has_host_memory() || executor_->backend().forward_begin == nullptr)
    fail_argument("Every expert of a layer on " + executor_->device_id() + " lies in its memory");
}

SeLayer* LayerState::open(const SeMoeLayer& layer) {
  SeLayer* opened = nullptr;
  throw_if_failed(
      executor_->call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
        SeLayer* made = nullptr;
        const int32_t code = backend.layer_open(device, &layer, &options_, &made, status);
        if (code == SE_OK) opened = made;
        return code;
      }));
  return opened;
}

void LayerState::open() {
  opened_ = open(layer_);
  if (!is_partial()) return;
  experts_layer_ = experts_alone(layer_);
  experts_opened_ = open(experts_layer_);
}

uint64_t LayerState::run_bytes(RunKind kind, int64_t num_tokens) const {
  const SeMoeLayer& layer = kind == RunKind::kWhole ? layer_ : experts_layer_;
  return executor_->backend().forward_workspace_bytes(executor_->device(), &layer, &options_,
                                                      num_tokens);
}

SeForwardRun* LayerState::begin_run(RunKind kind, const SeForwardArgs& args, void* workspace,
                                    uint64_t workspace_bytes) {
  zero_unwritten();
  SeLayer* const opened = kind == RunKind::kWhole ? opened_ : experts_opened_;
  SeForwardRun* run = nullptr;
  throw_if_failed(executor_->call([&](const SeBackend& backend, SeDevice*, SeStatus* status) {
    return backend.forward_begin(opened, &args, workspace, workspace_bytes, &run, status);
  }));
  return run;
}

}  // namespace sparse_experts::engine
