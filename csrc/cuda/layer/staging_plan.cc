#include "cuda/layer/staging_plan.h"

#include <cstring>

#include "core/numeric.h"
#include "cuda/runtime/tensor_rows.h"

namespace sparse_experts::cuda {
namespace {

// Every array begins where any vector load may.
constexpr uint64_t kAlignment = 256;

}  // namespace

StagingPlan plan_staging(const SeMoeLayer& layer, const SeForwardArgs& args) {
  const int64_t num_tokens = args.select.num_tokens;
  const int64_t num_slots = num_tokens * layer.routing.top_k;
  StagingPlan plan;
  uint64_t at = 0;
  const auto take = [&](int64_t bytes) {
    const uint64_t offset = at;
    at = round_up(at + static_cast<uint64_t>(bytes), kAlignment);
    return offset;
  };
  if ((args.device_arrays & SE_ARRAY_HIDDEN) == 0)
    plan.hidden = take(num_tokens * row_bytes(args.hidden));
  if (args.replay == 0) {
    if (args.router_input.data != nullptr && (args.device_arrays & SE_ARRAY_ROUTER_INPUT) == 0)
      plan.router_input = take(num_tokens * row_bytes(args.router_input));
    if (layer.routing.hash_routed != 0) plan.token_ids = take(num_tokens * 4);
    if (args.select.row_top_k != nullptr) plan.row_top_k = take(num_tokens);
    if (args.select.row_top_p != nullptr)
      plan.row_top_p = take(num_tokens * static_cast<int64_t>(sizeof(double)));
    if (args.select.sequence_lengths != nullptr)
      plan.sequence_lengths = take(args.select.num_sequences * 4);
    plan.input_bytes = at;
  }
  plan.result_begin = at;
  plan.topk_ids = take(num_slots * 4);
  plan.topk_weights = take(num_slots * 4);
  if (args.replay != 0) plan.input_bytes = plan.result_begin = at;
  plan.non_finite = take(num_tokens);
  if ((args.device_arrays & SE_ARRAY_OUTPUT) == 0)
    plan.output = take(num_tokens * row_bytes(args.output));
  plan.total_bytes = at;
  return plan;
}

void pack_rows(const SeTensor& tensor, char* dense) {
  const int64_t bytes = row_bytes(tensor);
  if (is_dense(tensor)) {
    std::memcpy(dense, tensor.data, tensor.shape[0] * bytes);
    return;
  }
  for (int64_t t = 0; t < tensor.shape[0]; ++t)
    std::memcpy(dense + t * bytes, row_of(tensor, t), bytes);
}

void unpack_rows(const char* dense, const SeTensor& tensor) {
  const int64_t bytes = row_bytes(tensor);
  if (is_dense(tensor)) {
    std::memcpy(tensor.data, dense, tensor.shape[0] * bytes);
    return;
  }
  for (int64_t t = 0; t < tensor.shape[0]; ++t)
    std::memcpy(row_of(tensor, t), dense + t * bytes, bytes);
}

}  // namespace sparse_experts::cuda
