// 1. route all tokens, in chunks of router logits, then drop what exceeds the experts' capacity
//    (which needs the whole batch); or take the replayed routing
// 2. run the waves of tokens (forward_wave.cc)
#include "cuda/layer/forward.h"

#include <algorithm>
#include <cmath>

#include "cuda/layer/forward_queue.h"
#include "cuda/layer/forward_wave.h"
#include "cuda/ops/capacity.h"
#include "cuda/ops/router.h"
#include "cuda/ops/select.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// Arrays that a call does not have stay null.
template <typename T>
T* from(T* data, int64_t offset) {
  return data == nullptr ? nullptr : data + offset;
}

Status queue_chunk(const ForwardQueue& queue, const SeForwardArgs& args,
                   const ForwardArrays& arrays, int64_t first, int64_t count) {
  const SeMoeLayer& layer = queue.layer;
  const ForwardPlan& plan = queue.plan;
  const int64_t top_k = layer.routing.top_k;
  RouterKernelArgs router{};
  router.hidden =
      row_of(arrays.router_input, arrays.router_input_dtype, arrays.router_input_stride, first);
  router.hidden_dtype = arrays.router_input_dtype;
  router.hidden_stride = arrays.router_input_stride;
  if (layer.router_input_scale != nullptr) {
    RowNormArgs rows{};
    rows.input = router.hidden;
    rows.input_dtype = router.hidden_dtype;
    rows.input_stride = router.hidden_stride;
    rows.scale = layer.router_input_scale;
    rows.epsilon = layer.router_norm_epsilon;
    rows.gain = 1 / std::sqrt(static_cast<double>(layer.hidden_size));
    rows.num_tokens = count;
    rows.hidden_size = layer.hidden_size;
    rows.rows = at<float>(queue, plan.router_rows);
    SE_RETURN_IF_ERROR(launched(queue, launch_row_norm(rows, next_in(queue)), "router_norm"));
    router.hidden = rows.rows;
    router.hidden_dtype = SE_F32;
    router.hidden_stride = layer.hidden_size;
  }
  router.weight = layer.router_weight;
  router.weight_dtype = SE_F32;
  router.weight_stride = layer.hidden_size;
  router.num_tokens = count;
  router.num_experts = layer.routing.num_experts;
  router.hidden_size = layer.hidden_size;
  router.partials = at<float>(queue, plan.partials);
  SE_RETURN_IF_ERROR(launched(queue, launch_router(router, next_in(queue)), "router"));

  SelectKernelArgs select{};
  select.logits = {router.partials, plan.num_splits, layer.router_bias};
  select.routing = layer.routing;
  select.num_tokens = count;
  select.token_ids = from(arrays.token_ids, first);
  select.row_top_k = from(arrays.row_top_k, first);
  select.call_top_k = args.select.call_top_k;
  select.row_top_p = from(arrays.row_top_p, first);
  select.top_p = args.select.top_p;
  select.topk_ids = arrays.topk_ids + first * top_k;
  select.topk_weights = arrays.topk_weights + first * top_k;
  select.non_finite = arrays.non_finite + first;
  select.slot_scores = from(at<double>(queue, plan.slot_scores), first * top_k);
  select.best_scores = from(at<double>(queue, plan.best_scores), first);
  return launched(queue, launch_select(select, queue.device.limits().device, next_in(queue)),
                  "select");
}

}  // namespace

Status queue_routing(const ForwardQueue& queue, const SeForwardArgs& args,
                     const ForwardArrays& arrays) {
  const ForwardPlan& plan = queue.plan;
  const int64_t num_tokens = args.select.num_tokens;
  if (args.replay != 0)
    return queue.device.check(cudaMemsetAsync(arrays.non_finite, 0, num_tokens, queue.stream),
                              "replay");
  for (int64_t first = 0; first < num_tokens; first += plan.route_tokens) {
    if (first > 0 && is_cancelled(args)) return Status::cancelled();
    SE_RETURN_IF_ERROR(
        queue_chunk(queue, args, arrays, first, std::min(plan.route_tokens, num_tokens - first)));
  }
  if (queue.layer.routing.capacity == SE_CAPACITY_NONE) return Status::ok();
  CapacityKernelArgs capacity{};
  capacity.routing = queue.layer.routing;
  capacity.num_tokens = num_tokens;
  capacity.sequence_lengths = arrays.sequence_lengths;
  capacity.num_sequences = args.select.num_sequences;
  capacity.topk_ids = arrays.topk_ids;
  capacity.topk_weights = arrays.topk_weights;
  capacity.non_finite = arrays.non_finite;
  capacity.slot_scores = at<double>(queue, plan.slot_scores);
  capacity.best_scores = at<double>(queue, plan.best_scores);
  capacity.scratch = at<uint8_t>(queue, plan.capacity_scratch);
  return launched(queue, launch_capacity(capacity, next_in(queue)), "capacity");
}

Status queue_forward(const ForwardQueue& queue, const SeForwardArgs& args,
                     const ForwardArrays& arrays) {
  SE_RETURN_IF_ERROR(queue_routing(queue, args, arrays));
  const int64_t num_tokens = args.select.num_tokens;
  const int64_t wave_tokens = queue.plan.wave_tokens;
  for (int64_t first = 0; first < num_tokens; first += wave_tokens) {
    if (is_cancelled(args)) return Status::cancelled();
    SE_RETURN_IF_ERROR(queue_wave(queue, arrays, first, std::min(wave_tokens, num_tokens - first)));
  }
  return Status::ok();
}

}  // namespace sparse_experts::cuda
