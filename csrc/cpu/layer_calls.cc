#include "cpu/layer_calls.h"

#include <memory>
#include <vector>

#include "abi/guarded.h"
#include "cpu/device.h"
#include "cpu/forward.h"
#include "cpu/forward_run.h"
#include "cpu/layouts/matrix_panels.h"
#include "cpu/ops/router.h"
#include "ops/checks.h"
#include "ops/contract.h"

namespace sparse_experts::cpu {
namespace {

// Whether any instruction set holds a format: every one reads every code.
bool is_held(int32_t dtype, const SeMatrixFormat& format) {
  return holds_format(dtype, format, false);
}

// A table of the layer's own, with what was there.
void take_table(int64_t num_experts, SeMatrixTable* table, std::vector<const void*>* entries) {
  if (table->data == nullptr) return;
  entries->assign(table->data, table->data + num_experts);
  table->data = entries->data();
}

Status check_call(const SeMoeLayer& layer, const SeForwardArgs& args) {
  SE_RETURN_IF_ERROR(check_forward(layer, args));
  SE_RETURN_IF_ERROR(check_select_arrays(layer.routing, args.select, args.replay != 0));
  return validate_forward(args);
}

}  // namespace

int32_t layer_open(SeDevice* device, const SeMoeLayer* layer, const SeLayerOptions* options,
                   SeLayer** opened, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    *opened = nullptr;
    SE_RETURN_IF_ERROR(check_layer(*layer, is_held));
    SE_RETURN_IF_ERROR(check_layer_contents(*layer));
    SE_RETURN_IF_ERROR(check_hash_table(layer->routing));
    SE_RETURN_IF_ERROR(validate_layer(*layer));
    auto made = std::make_unique<SeLayer>();
    made->device = device;
    made->layer = *layer;
    if (options != nullptr) made->options = *options;
    made->router_bf16 = bf16_router(*layer);
    if (made->options.cached) {
      SeExperts& experts = made->layer.experts;
      take_table(experts.num_experts, &experts.gate, &made->tables.gate);
      take_table(experts.num_experts, &experts.up, &made->tables.up);
      take_table(experts.num_experts, &experts.down, &made->tables.down);
    }
    *opened = made.release();
    return Status::ok();
  });
}

void layer_close(SeLayer* layer) { delete layer; }

int32_t layer_set_experts(SeLayer* layer, const int32_t* experts, int64_t num_experts,
                          const SeExpertMatrices* matrices, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_expert_matrices(layer->layer.experts, layer->options, experts,
                                             num_experts, matrices));
    const std::lock_guard<std::mutex> lock(layer->device->mutex);
    for (int64_t i = 0; i < num_experts; ++i) {
      const auto e = static_cast<size_t>(experts[i]);
      if (!layer->tables.gate.empty()) layer->tables.gate[e] = matrices[i].gate;
      layer->tables.up[e] = matrices[i].up;
      layer->tables.down[e] = matrices[i].down;
    }
    return Status::ok();
  });
}

int32_t forward_begin(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                      uint64_t workspace_bytes, SeForwardRun** run, SeStatus* status) {
  *run = nullptr;
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_call(layer->layer, *args));
    const std::lock_guard<std::mutex> lock(layer->device->mutex);
    auto made = std::make_unique<SeForwardRun>(layer, *args, static_cast<char*>(workspace));
    SE_RETURN_IF_ERROR(made->begin(workspace_bytes));
    *run = made.release();
    return Status::ok();
  });
}

int32_t forward_wave(SeForwardRun* run, SeForwardWave* wave, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    const std::lock_guard<std::mutex> lock(run->device()->mutex);
    return run->next_wave(wave);
  });
}

int32_t forward_experts(SeForwardRun* run, const int32_t* experts, int64_t num_experts,
                        SeStatus* status) {
  return guarded(status, [&]() -> Status {
    const std::lock_guard<std::mutex> lock(run->device()->mutex);
    return run->run_experts(experts, num_experts);
  });
}

int32_t forward_slot_rows(SeForwardRun* run, const int32_t* experts, int64_t num_experts,
                          SeTensor* rows, SeStatus* status) {
  return guarded(status, [&] { return run->slot_rows(experts, num_experts, rows); });
}

int32_t forward_finish(SeForwardRun* run, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    const std::lock_guard<std::mutex> lock(run->device()->mutex);
    return run->finish();
  });
}

void forward_end(SeForwardRun* run) { delete run; }

int32_t layer_forward(SeLayer* layer, const SeForwardArgs* args, void* workspace,
                      uint64_t workspace_bytes, SeStatus* status) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(check_call(layer->layer, *args));
    std::lock_guard<std::mutex> lock(layer->device->mutex);
    return forward(RunContext(layer->device, args->num_threads, args->cancel), layer, *args,
                   static_cast<char*>(workspace), workspace_bytes);
  });
}

void layer_phases(SeLayer* layer, SePhaseTimes* times) { *times = layer->phases.read(); }

}  // namespace sparse_experts::cpu
