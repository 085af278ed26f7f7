#include "cuda/layer/layer_calls.h"

#include <memory>

#include "cuda/layer/describe.h"
#include "cuda/layer/forward_run.h"
#include "cuda/layer/layer.h"
#include "cuda/runtime/device.h"
#include "cuda/runtime/guarded_on.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

SeDevice* device_of(SeLayer* layer) { return static_cast<SeDevice*>(&layer->device()); }

// A step of a run.
template <typename Body>
int32_t guarded_step(SeForwardRun* run, SeStatus* status, const Body& body) {
  return guarded_on(static_cast<SeDevice*>(&run->device()), status, body);
}

}  // namespace

uint64_t forward_workspace_bytes(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions*,
                                 int64_t num_tokens) {
  return plan_forward(*layer, device->limits(), num_tokens).total_bytes;
}

void describe_layer(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                    int64_t num_tokens, SeForwardDescription* description) {
  *description = SeForwardDescription{};
  guarded(nullptr, [&]() -> Status {
    describe_forward(*layer, options != nullptr ? *options : SeLayerOptions{}, device->limits(),
                     expect_maps(*device, *layer), num_tokens, description);
    return Status::ok();
  });
}

int32_t layer_open(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                   SeLayer** opened, SeStatus* status) {
  *opened = nullptr;
  return guarded_on(device, status, [&]() -> Status {
    if (options != nullptr && options->int8_activations != 0)
      return Status::invalid("layer: there is no matmul of int8 activations here");
    auto made = std::make_unique<SeLayer>(*device, *layer,
                                          options != nullptr ? *options : SeLayerOptions{});
    SE_RETURN_IF_ERROR(made->open());
    *opened = made.release();
    return Status::ok();
  });
}

void layer_close(SeLayer* layer) {
  if (layer == nullptr) return;
  guarded(nullptr, [&]() -> Status {
    delete layer;
    return Status::ok();
  });
}

int32_t stage_forward(SeLayer* layer, SeForwardArgs* args, SeStatus* status) {
  return guarded_on(device_of(layer), status, [&] { return layer->stage(args); });
}

void unstage_forward(SeLayer* layer) { layer->unstage(); }

int32_t forward(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                uint64_t workspace_bytes, SeStatus* status) {
  return guarded_on(device_of(layer), status,
                    [&] { return layer->forward(*args, workspace, workspace_bytes); });
}

int32_t layer_set_experts(SeLayer* layer, const int32_t* experts, int64_t num_experts,
                          const SeExpertMatrices* matrices, SeStatus* status) {
  return guarded_on(device_of(layer), status,
                    [&] { return layer->set_experts(experts, num_experts, matrices); });
}

int32_t forward_begin(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                      uint64_t workspace_bytes, SeForwardRun** run, SeStatus* status) {
  *run = nullptr;
  return guarded_on(device_of(layer), status, [&]() -> Status {
    ForwardPlan plan;
    SE_RETURN_IF_ERROR(layer->plan_call(*args, workspace, workspace_bytes, &plan));
    auto made = std::make_unique<SeForwardRun>(*layer, *args, plan, static_cast<char*>(workspace));
    SE_RETURN_IF_ERROR(made->begin());
    *run = made.release();
    return Status::ok();
  });
}

int32_t forward_wave(SeForwardRun* run, SeForwardWave* wave, SeStatus* status) {
  return guarded_step(run, status, [&] { return run->next_wave(wave); });
}

int32_t forward_experts(SeForwardRun* run, const int32_t* experts, int64_t num_experts,
                        SeStatus* status) {
  return guarded_step(run, status, [&] { return run->run_experts(experts, num_experts); });
}

int32_t forward_slot_rows(SeForwardRun* run, const int32_t* experts, int64_t num_experts,
                          SeTensor* rows, SeStatus* status) {
  return guarded_step(run, status, [&] { return run->slot_rows(experts, num_experts, rows); });
}

int32_t forward_finish(SeForwardRun* run, SeStatus* status) {
  return guarded_step(run, status, [&] { return run->finish(); });
}

void forward_end(SeForwardRun* run) {
  if (run == nullptr) return;
  guarded(nullptr, [&]() -> Status {
    static_cast<void>(run->device().enter());
    delete run;
    return Status::ok();
  });
}

}  // namespace sparse_experts::cuda
