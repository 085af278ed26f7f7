// One MoE block:
//   1. route all tokens, in chunks of router logits (capacity needs the whole batch), or take the
//   replayed routing
//   2. wave by wave, compute experts and sums (forward_wave.h)
#include "cpu/forward.h"

#include <algorithm>
#include <string>

#include "cpu/device.h"
#include "cpu/forward_plan.h"
#include "cpu/forward_wave.h"
#include "cpu/ops/capacity.h"
#include "cpu/ops/router.h"

namespace sparse_experts::cpu {
namespace {

// Fills ids, weights and flags of all tokens, in chunks of router logits: capacity needs the whole
// batch.
void route(const RunContext& context, const SeLayer& opened, const SeForwardArgs& args,
           const ForwardPlan& plan, char* workspace) {
  const SeMoeLayer& layer = opened.layer;
  RouterMatmul router;
  router.input = args.router_input.data != nullptr ? &args.router_input : &args.hidden;
  const bool is_bf16 = !opened.router_bf16.empty();
  router.weight = is_bf16 ? static_cast<const void*>(opened.router_bf16.data())
                          : static_cast<const void*>(layer.router_weight);
  router.weight_dtype = is_bf16 ? SE_BF16 : SE_F32;
  router.weight_stride = layer.hidden_size;
  router.num_experts = layer.routing.num_experts;
  router.hidden_size = layer.hidden_size;
  router.bias = layer.router_bias;
  router.input_scale = layer.router_input_scale;
  router.norm_epsilon = layer.router_norm_epsilon;
  float* logits = reinterpret_cast<float*>(workspace + plan.logits);
  float* rows = reinterpret_cast<float*>(workspace + plan.router_rows);
  const int64_t num_tokens = args.select.num_tokens;
  prepare_select(context, layer.routing, args.select);
  for (int64_t first = 0; first < num_tokens && !context.is_cancelled();
       first += plan.route_tokens) {
    const int64_t count = std::min(plan.route_tokens, num_tokens - first);
    router_logits(context, router, first, count, rows, logits);
    select_rows(context, layer.routing, args.select, logits, first, count);
  }
  if (!context.is_cancelled()) apply_capacity(context, layer.routing, args.select);
}

}  // namespace

void take_routing(const RunContext& context, SeLayer* opened, const SeForwardArgs& args,
                  const ForwardPlan& plan, char* workspace) {
  PhaseClock clock(&opened->phases);
  if (!args.replay) {
    route(context, *opened, args, plan, workspace);
  } else if (args.select.non_finite != nullptr) {
    std::fill_n(args.select.non_finite, args.select.num_tokens, uint8_t{0});
  }
  clock.ends(Phase::kRouting);
}

Status plan_call(const RunContext& context, const SeLayer& opened, const SeForwardArgs& args,
                 const char* workspace, uint64_t workspace_bytes, ForwardPlan* plan) {
  *plan = plan_forward(*context.kernels, opened.layer, opened.options, args.select.num_tokens);
  if (workspace == nullptr || workspace_bytes < plan->total_bytes)
    return Status::workspace_too_small(workspace_bytes, plan->total_bytes);
  return Status::ok();
}

Status check_present(const ForwardWave& wave, const ExpertChoice& choice) {
  const int64_t absent = wave.find_absent(choice);
  if (absent < 0) return Status::ok();
  return {SE_INTERNAL, "forward: expert " + std::to_string(absent) + " is needed and not here"};
}

Status forward(const RunContext& context, SeLayer* opened, const SeForwardArgs& args,
               char* workspace, uint64_t workspace_bytes) {
  const int64_t num_tokens = args.select.num_tokens;
  if (num_tokens == 0) return Status::ok();
  ForwardPlan plan;
  SE_RETURN_IF_ERROR(plan_call(context, *opened, args, workspace, workspace_bytes, &plan));
  take_routing(context, opened, args, plan, workspace);
  PhaseClock clock(&opened->phases);
  for (int64_t first = 0; first < num_tokens && !context.is_cancelled();
       first += plan.wave_tokens) {
    ForwardWave wave(context, *opened, args, plan, workspace, first);
    wave.begin(&clock);
    if (opened->options.cached) SE_RETURN_IF_ERROR(check_present(wave, ExpertChoice::all()));
    wave.run_experts(ExpertChoice::all(), &clock);
    wave.finish(&clock);
  }
  return context.is_cancelled() ? Status::cancelled() : Status::ok();
}

}  // namespace sparse_experts::cpu
