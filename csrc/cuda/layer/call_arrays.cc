#include "cuda/layer/call_arrays.h"

#include <cstring>

#include "cuda/runtime/tensor_rows.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

// put(offset, array, bytes) for each index array that the call brings.
template <typename Put>
Status for_inputs(const SeMoeLayer& layer, const SeForwardArgs& args, const StagingPlan& staging,
                  const Put& put) {
  const SeSelectArgs& select = args.select;
  const int64_t num_tokens = select.num_tokens;
  const int64_t num_slots = num_tokens * layer.routing.top_k;
  const auto put_present = [&](uint64_t offset, const void* from, int64_t bytes) {
    return offset == StagingPlan::kNone ? Status::ok() : put(offset, from, bytes);
  };
  SE_RETURN_IF_ERROR(put_present(staging.token_ids, select.token_ids, num_tokens * 4));
  SE_RETURN_IF_ERROR(put_present(staging.row_top_k, select.row_top_k, num_tokens));
  SE_RETURN_IF_ERROR(put_present(staging.row_top_p, select.row_top_p,
                                 num_tokens * static_cast<int64_t>(sizeof(double))));
  SE_RETURN_IF_ERROR(
      put_present(staging.sequence_lengths, select.sequence_lengths, select.num_sequences * 4));
  if (args.replay == 0) return Status::ok();
  SE_RETURN_IF_ERROR(put_present(staging.topk_ids, select.topk_ids, num_slots * 4));
  return put_present(staging.topk_weights, select.topk_weights, num_slots * 4);
}

SeTensor rows_of(const SeTensor& tensor, int64_t first, int64_t count) {
  SeTensor rows = tensor;
  rows.data = row_of(tensor, first);
  rows.shape[0] = count;
  return rows;
}

}  // namespace

void bring_in(const SeMoeLayer& layer, const SeForwardArgs& args, const StagingPlan& staging,
              char* block) {
  if (staging.hidden != StagingPlan::kNone) pack_rows(args.hidden, block + staging.hidden);
  if (staging.router_input != StagingPlan::kNone)
    pack_rows(args.router_input, block + staging.router_input);
  static_cast<void>(
      for_inputs(layer, args, staging, [&](uint64_t offset, const void* from, int64_t bytes) {
        std::memcpy(block + offset, from, static_cast<size_t>(bytes));
        return Status::ok();
      }));
}

void hand_out_routing(const SeMoeLayer& layer, const SeForwardArgs& args,
                      const StagingPlan& staging, const char* block) {
  if (args.replay != 0) return;
  const SeSelectArgs& select = args.select;
  const auto bytes = static_cast<size_t>(select.num_tokens * layer.routing.top_k * 4);
  std::memcpy(select.topk_ids, block + staging.topk_ids, bytes);
  std::memcpy(select.topk_weights, block + staging.topk_weights, bytes);
}

void hand_out_flags(const SeForwardArgs& args, const StagingPlan& staging, const char* block,
                    int64_t first, int64_t count) {
  if (args.select.non_finite != nullptr)
    std::memcpy(args.select.non_finite + first, block + staging.non_finite + first,
                static_cast<size_t>(count));
}

void hand_out_rows(const SeForwardArgs& args, const StagingPlan& staging, const char* block,
                   int64_t first, int64_t count) {
  hand_out_flags(args, staging, block, first, count);
  if (staging.output != StagingPlan::kNone)
    unpack_rows(block + staging.output + first * row_bytes(args.output),
                rows_of(args.output, first, count));
}

Status copy_in(Copier& copier, const SeMoeLayer& layer, const SeForwardArgs& args,
               const StagingPlan& staging, char* block) {
  if (staging.hidden != StagingPlan::kNone)
    SE_RETURN_IF_ERROR(copier.rows_to_device(block + staging.hidden, args.hidden));
  if (staging.router_input != StagingPlan::kNone)
    SE_RETURN_IF_ERROR(copier.rows_to_device(block + staging.router_input, args.router_input));
  return for_inputs(layer, args, staging, [&](uint64_t offset, const void* from, int64_t bytes) {
    return copier.to_device(block + offset, from, static_cast<uint64_t>(bytes));
  });
}

Status copy_out_routing(Copier& copier, const SeMoeLayer& layer, const SeForwardArgs& args,
                        const StagingPlan& staging, const char* block) {
  if (args.replay != 0) return Status::ok();
  const SeSelectArgs& select = args.select;
  const auto bytes = static_cast<uint64_t>(select.num_tokens * layer.routing.top_k * 4);
  SE_RETURN_IF_ERROR(copier.to_host(select.topk_ids, block + staging.topk_ids, bytes));
  return copier.to_host(select.topk_weights, block + staging.topk_weights, bytes);
}

Status copy_out_flags(Copier& copier, const SeForwardArgs& args, const StagingPlan& staging,
                      const char* block, int64_t first, int64_t count) {
  if (args.select.non_finite == nullptr) return Status::ok();
  return copier.to_host(args.select.non_finite + first, block + staging.non_finite + first,
                        static_cast<uint64_t>(count));
}

Status copy_out_rows(Copier& copier, const SeForwardArgs& args, const StagingPlan& staging,
                     const char* block, int64_t first, int64_t count) {
  SE_RETURN_IF_ERROR(copy_out_flags(copier, args, staging, block, first, count));
  if (staging.output == StagingPlan::kNone) return Status::ok();
  return copier.rows_to_host(rows_of(args.output, first, count),
                             block + staging.output + first * row_bytes(args.output));
}

}  // namespace sparse_experts::cuda
