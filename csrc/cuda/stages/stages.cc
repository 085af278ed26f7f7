#include "cuda/stages/stages.h"

#include <algorithm>
#include <climits>
#include <vector>

#include "core/dtype.h"
#include "cuda/ops/capacity.h"
#include "cuda/ops/combine.h"
#include "cuda/ops/dispatch.h"
#include "cuda/ops/router.h"
#include "cuda/ops/select.h"
#include "cuda/stages/stage.h"
#include "ops/checks.h"
#include "ops/contract.h"

namespace sparse_experts::cuda {
namespace {

Status queue_router(Stage& stage, const SeGateArgs& args, float* partials, int64_t chunk_tokens) {
  const int64_t num_tokens = args.hidden.shape[0];
  const int64_t num_experts = args.router_weight.shape[0];
  const int64_t hidden_size = args.hidden.shape[1];
  const int64_t stride = row_stride(args.hidden);
  const int64_t row_bytes = stride * dtype_bytes(args.hidden.dtype);
  for (int64_t first = 0; first < num_tokens; first += chunk_tokens) {
    RouterKernelArgs router{};
    router.hidden = static_cast<const char*>(args.hidden.data) + first * row_bytes;
    router.hidden_dtype = args.hidden.dtype;
    router.hidden_stride = stride;
    router.weight = args.router_weight.data;
    router.weight_dtype = args.router_weight.dtype;
    router.weight_stride = row_stride(args.router_weight);
    router.num_tokens = std::min(chunk_tokens, num_tokens - first);
    router.num_experts = num_experts;
    router.hidden_size = hidden_size;
    router.partials = partials;
    SplitLogits split{partials, router_splits(hidden_size), args.bias};
    if (hidden_size > 0) {
      SE_RETURN_IF_ERROR(stage.launched(launch_router(router, stage.stream()), "router"));
    } else {  // nothing to sum
      split.num_splits = 1;
      SE_RETURN_IF_ERROR(stage.check(
          cudaMemsetAsync(partials, 0, router.num_tokens * num_experts * 4, stage.stream()),
          "gate"));
    }
    SE_RETURN_IF_ERROR(
        stage.launched(launch_router_sum(split, router.num_tokens, num_experts,
                                         args.router_logits + first * num_experts, stage.stream()),
                       "router_sum"));
  }
  return Status::ok();
}

Status queue_select(Stage& stage, const SeRouting& routing, const SeSelectArgs& args,
                    double* slot_scores, double* best_scores, uint8_t* capacity_scratch) {
  SelectKernelArgs select{};
  select.logits = {args.router_logits, 1, nullptr};
  select.routing = routing;
  select.num_tokens = args.num_tokens;
  select.token_ids = args.token_ids;
  select.row_top_k = args.row_top_k;
  select.call_top_k = args.call_top_k;
  select.row_top_p = args.row_top_p;
  select.top_p = args.top_p;
  select.topk_ids = args.topk_ids;
  select.topk_weights = args.topk_weights;
  select.non_finite = args.non_finite;
  select.slot_scores = slot_scores;
  select.best_scores = best_scores;
  SE_RETURN_IF_ERROR(
      stage.launched(launch_select(select, stage.limits(), stage.stream()), "select"));
  if (routing.capacity == SE_CAPACITY_NONE) return Status::ok();
  CapacityKernelArgs capacity{};
  capacity.routing = routing;
  capacity.num_tokens = args.num_tokens;
  capacity.sequence_lengths = args.sequence_lengths;
  capacity.num_sequences = args.num_sequences;
  capacity.topk_ids = args.topk_ids;
  capacity.topk_weights = args.topk_weights;
  capacity.non_finite = args.non_finite;
  capacity.slot_scores = slot_scores;
  capacity.best_scores = best_scores;
  capacity.scratch = capacity_scratch;
  return stage.launched(launch_capacity(capacity, stage.stream()), "capacity");
}

Status check_select_contents(Stage& stage, const SeRouting& routing, const SeSelectArgs& args) {
  ContentChecks checks = stage.checks();
  if (args.row_top_k != nullptr)
    SE_RETURN_IF_ERROR(checks.row_top_k(args.row_top_k, args.num_tokens, routing.top_k));
  if (routing.hash_routed != 0) {
    SE_RETURN_IF_ERROR(checks.range(args.token_ids, args.num_tokens, 0,
                                    std::min<int64_t>(routing.vocab_size - 1, INT32_MAX),
                                    "select: the token id of token ",
                                    " is not in [0, " + std::to_string(routing.vocab_size) + ")"));
    SE_RETURN_IF_ERROR(checks.range(routing.hash_table, routing.vocab_size * routing.top_k, 0,
                                    routing.num_experts - 1, "select: entry ",
                                    " of the hash table is no expert"));
  }
  SE_RETURN_IF_ERROR(checks.finish());
  if (args.sequence_lengths == nullptr) return Status::ok();
  std::vector<int32_t> lengths;
  SE_RETURN_IF_ERROR(stage.read_back(args.sequence_lengths, args.num_sequences, &lengths));
  SeSelectArgs on_host{};
  on_host.num_tokens = args.num_tokens;
  on_host.sequence_lengths = lengths.data();
  on_host.num_sequences = args.num_sequences;
  SeRouting without_table = routing;
  without_table.hash_routed = 0;
  return check_select_arrays(without_table, on_host, false);
}

}  // namespace

Status router_stage(Device& device, const SeGateArgs& args) {
  const int64_t num_tokens = args.hidden.shape[0];
  const int64_t num_experts = args.router_weight.shape[0];
  if (num_tokens == 0 || num_experts == 0) return device.enter();
  const int64_t num_splits = std::max(1, router_splits(args.hidden.shape[1]));
  const int64_t chunk_tokens = std::min(
      num_tokens, std::max<int64_t>(64, (int64_t{64} << 20) / (num_splits * num_experts * 4)));
  Stage stage(device);
  const uint64_t partials = stage.take(chunk_tokens * num_experts * num_splits * 4);
  SE_RETURN_IF_ERROR(stage.reserve());
  return stage.finish(queue_router(stage, args, stage.at<float>(partials), chunk_tokens), "gate");
}

Status select_stage(Device& device, const SeRouting& routing, const SeSelectArgs& args) {
  if (args.num_tokens == 0) return device.enter();
  Stage stage(device);
  uint64_t slot_scores = 0, best_scores = 0, capacity_scratch = 0;
  const bool batch = routing.capacity == SE_CAPACITY_BATCH;
  if (batch) {
    slot_scores = stage.take(args.num_tokens * routing.top_k * sizeof(double));
    best_scores = stage.take(args.num_tokens * sizeof(double));
  }
  if (routing.capacity != SE_CAPACITY_NONE)
    capacity_scratch = stage.take(capacity_scratch_bytes(routing, args.num_tokens));
  SE_RETURN_IF_ERROR(stage.reserve());
  SE_RETURN_IF_ERROR(stage.finish(check_select_contents(stage, routing, args), "select"));
  return stage.finish(
      queue_select(stage, routing, args, batch ? stage.at<double>(slot_scores) : nullptr,
                   batch ? stage.at<double>(best_scores) : nullptr,
                   stage.at<uint8_t>(capacity_scratch)),
      "select");
}

Status dispatch_stage(Device& device, const SeDispatchArgs& args) {
  Stage stage(device);
  const uint64_t scratch = stage.take(dispatch_scratch_bytes(args.num_slots, args.num_experts));
  SE_RETURN_IF_ERROR(stage.reserve());
  if (args.num_slots == 0)
    return stage.finish(
        stage.check(cudaMemsetAsync(args.expert_offsets, 0,
                                    (args.num_experts + 1) * sizeof(int32_t), stage.stream()),
                    "dispatch"),
        "dispatch");
  const auto queue = [&]() -> Status {
    ContentChecks checks = stage.checks();
    SE_RETURN_IF_ERROR(checks.range(args.topk_ids, args.num_slots, -1, args.num_experts - 1,
                                    "dispatch: the expert id in slot ",
                                    " is not in [-1, " + std::to_string(args.num_experts) + ")"));
    SE_RETURN_IF_ERROR(checks.finish());
    DispatchKernelArgs dispatch{};
    dispatch.topk_ids = args.topk_ids;
    dispatch.num_slots = args.num_slots;
    dispatch.top_k = 1;
    dispatch.num_experts = args.num_experts;
    dispatch.expert_offsets = args.expert_offsets;
    dispatch.sorted_slots = args.sorted_slots;
    dispatch.scratch = stage.at<void>(scratch);
    return stage.launched(launch_dispatch(dispatch, stage.stream()), "dispatch");
  };
  return stage.finish(queue(), "dispatch");
}

Status combine_stage(Device& device, const SeCombineArgs& args) {
  const SeTensor& rows = args.expert_output;
  const int64_t num_slots = args.num_tokens * args.top_k;
  const int64_t hidden_size = rows.shape[1];
  if (num_slots == 0 || hidden_size == 0) return device.enter();
  Stage stage(device);
  // The kernel takes dense rows.
  const bool dense = rows.shape[0] == 1 || rows.strides[0] == hidden_size;
  const uint64_t compact = dense ? 0 : stage.take(num_slots * hidden_size * sizeof(float));
  const bool listed = args.expert_offsets != nullptr;
  const DistinctSlots distinct(&stage, listed ? num_slots : 0);
  SE_RETURN_IF_ERROR(stage.reserve());
  const auto queue = [&]() -> Status {
    CombineKernelArgs combine{};
    combine.topk_ids = args.topk_ids;
    ContentChecks checks = stage.checks();
    if (listed) {
      SE_RETURN_IF_ERROR(
          checks.offsets(args.expert_offsets, args.num_experts, num_slots, "combine"));
      SE_RETURN_IF_ERROR(checks.slots(args.sorted_slots, args.expert_offsets + args.num_experts,
                                      num_slots, "combine"));
      SE_RETURN_IF_ERROR(checks.finish());
      std::vector<int32_t> num_listed;
      SE_RETURN_IF_ERROR(stage.read_back(args.expert_offsets + args.num_experts, 1, &num_listed));
      SE_RETURN_IF_ERROR(distinct.mark(&stage, args.expert_offsets, args.num_experts,
                                       args.sorted_slots, num_slots));
      SE_RETURN_IF_ERROR(distinct.check(&stage, num_listed[0], num_slots, "combine"));
      combine.topk_ids = stage.at<int32_t>(distinct.ids);
    } else if (args.topk_ids != nullptr) {
      // The kernel takes ids from its number of experts on for identity experts; none is one here.
      SE_RETURN_IF_ERROR(checks.range(args.topk_ids, num_slots, INT32_MIN, INT32_MAX - 1,
                                      "combine: the expert id in slot ", " is out of range"));
      SE_RETURN_IF_ERROR(checks.finish());
    }
    combine.num_tokens = args.num_tokens;
    combine.top_k = args.top_k;
    combine.hidden_size = hidden_size;
    combine.expert_output = static_cast<const float*>(rows.data);
    if (!dense) {
      SE_RETURN_IF_ERROR(stage.check(
          cudaMemcpy2DAsync(stage.at<float>(compact), hidden_size * sizeof(float), rows.data,
                            rows.strides[0] * sizeof(float), hidden_size * sizeof(float), num_slots,
                            cudaMemcpyDeviceToDevice, stage.stream()),
          "combine"));
      combine.expert_output = stage.at<float>(compact);
    }
    combine.topk_weights = args.topk_weights;
    combine.num_experts = INT32_MAX;
    combine.output = args.output.data;
    combine.output_dtype = args.output.dtype;
    combine.output_stride = row_stride(args.output);
    return stage.launched(launch_combine(combine, stage.stream()), "combine");
  };
  return stage.finish(queue(), "combine");
}

Status check_hash_table(Device& device, const SeRouting& routing) {
  Stage stage(device);
  SE_RETURN_IF_ERROR(stage.reserve());
  const auto queue = [&]() -> Status {
    ContentChecks checks = stage.checks();
    SE_RETURN_IF_ERROR(checks.range(routing.hash_table, routing.vocab_size * routing.top_k, 0,
                                    routing.num_experts - 1, "layer: entry ",
                                    " of the hash table is no expert"));
    return checks.finish();
  };
  return stage.finish(queue(), "check_range");
}

}  // namespace sparse_experts::cuda
