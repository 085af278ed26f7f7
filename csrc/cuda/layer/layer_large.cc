// A large call: array by array through the device's copier, into memory that all layers share.
#include "cuda/layer/layer.h"
#include "cuda/layer/place_arrays.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {

Status Layer::run_large(const SeForwardArgs& args, const StagingPlan& staging,
                        const ForwardPlan& plan, char* workspace) {
  std::lock_guard<std::mutex> lock(device_.bulk_mutex);
  SE_RETURN_IF_ERROR(device_.bulk().reserve(staging.total_bytes));
  char* const block = device_.bulk().data();
  Copier& copier = device_.copier();
  const SeSelectArgs& select = args.select;
  const int64_t num_tokens = select.num_tokens;
  const int64_t num_slots = num_tokens * layer_.routing.top_k;
  const auto put = [&](uint64_t offset, const void* from, int64_t bytes) {
    return offset == StagingPlan::kNone ? Status::ok()
                                        : copier.to_device(block + offset, from, bytes);
  };
  if (staging.hidden != StagingPlan::kNone)
    SE_RETURN_IF_ERROR(copier.rows_to_device(block + staging.hidden, args.hidden));
  if (staging.router_input != StagingPlan::kNone)
    SE_RETURN_IF_ERROR(copier.rows_to_device(block + staging.router_input, args.router_input));
  SE_RETURN_IF_ERROR(put(staging.token_ids, select.token_ids, num_tokens * 4));
  SE_RETURN_IF_ERROR(put(staging.row_top_k, select.row_top_k, num_tokens));
  SE_RETURN_IF_ERROR(
      put(staging.row_top_p, select.row_top_p, num_tokens * static_cast<int64_t>(sizeof(double))));
  SE_RETURN_IF_ERROR(
      put(staging.sequence_lengths, select.sequence_lengths, select.num_sequences * 4));
  if (args.replay != 0) {
    SE_RETURN_IF_ERROR(put(staging.topk_ids, select.topk_ids, num_slots * 4));
    SE_RETURN_IF_ERROR(put(staging.topk_weights, select.topk_weights, num_slots * 4));
  }
  SE_RETURN_IF_ERROR(finish(queue_forward(queue_of(plan, workspace, false), args,
                                          place_arrays(layer_, args, staging, block))));
  const auto get = [&](void* to, uint64_t offset, int64_t bytes) {
    return to == nullptr ? Status::ok() : copier.to_host(to, block + offset, bytes);
  };
  if (args.replay == 0) {
    SE_RETURN_IF_ERROR(get(select.topk_ids, staging.topk_ids, num_slots * 4));
    SE_RETURN_IF_ERROR(get(select.topk_weights, staging.topk_weights, num_slots * 4));
  }
  SE_RETURN_IF_ERROR(get(select.non_finite, staging.non_finite, num_tokens));
  if (staging.output == StagingPlan::kNone) return Status::ok();
  return copier.rows_to_host(args.output, block + staging.output);
}

}  // namespace sparse_experts::cuda
