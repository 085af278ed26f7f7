#include "cuda/layer/place_arrays.h"

namespace sparse_experts::cuda {
namespace {

int64_t stride_of(const SeTensor& tensor) {
  return tensor.shape[0] == 1 ? tensor.shape[1] : tensor.strides[0];
}

}  // namespace

ForwardArrays place_arrays(const SeMoeLayer& layer, const SeForwardArgs& args,
                           const StagingPlan& staging, char* base) {
  const auto staged = [&](uint64_t offset) -> char* {
    return offset == StagingPlan::kNone ? nullptr : base + offset;
  };
  ForwardArrays arrays;
  const bool own_hidden = staging.hidden == StagingPlan::kNone;
  arrays.hidden = own_hidden ? args.hidden.data : staged(staging.hidden);
  arrays.hidden_dtype = args.hidden.dtype;
  arrays.hidden_stride = own_hidden ? stride_of(args.hidden) : layer.hidden_size;
  arrays.router_input = arrays.hidden;
  arrays.router_input_dtype = arrays.hidden_dtype;
  arrays.router_input_stride = arrays.hidden_stride;
  if (args.router_input.data != nullptr && args.replay == 0) {
    const bool own = staging.router_input == StagingPlan::kNone;
    arrays.router_input = own ? args.router_input.data : staged(staging.router_input);
    arrays.router_input_dtype = args.router_input.dtype;
    arrays.router_input_stride = own ? stride_of(args.router_input) : layer.hidden_size;
  }
  arrays.token_ids = reinterpret_cast<const int32_t*>(staged(staging.token_ids));
  arrays.row_top_k = reinterpret_cast<const uint8_t*>(staged(staging.row_top_k));
  arrays.row_top_p = reinterpret_cast<const double*>(staged(staging.row_top_p));
  arrays.sequence_lengths = reinterpret_cast<const int32_t*>(staged(staging.sequence_lengths));
  arrays.topk_ids = reinterpret_cast<int32_t*>(base + staging.topk_ids);
  arrays.topk_weights = reinterpret_cast<float*>(base + staging.topk_weights);
  arrays.non_finite = reinterpret_cast<uint8_t*>(base + staging.non_finite);
  const bool own_output = staging.output == StagingPlan::kNone;
  arrays.output = own_output ? args.output.data : staged(staging.output);
  arrays.output_stride = own_output ? stride_of(args.output) : layer.hidden_size;
  return arrays;
}

}  // namespace sparse_experts::cuda
