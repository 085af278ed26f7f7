#include "engine/forward_arrays.h"

#include <array>

#include "core/dtype.h"

namespace sparse_experts::engine {

void* pointer_of(const SeForwardArgs& args, int array) {
  const SeSelectArgs& select = args.select;
  const std::array<const void*, kNumForwardArrays> pointers = {
      args.hidden.data,    args.router_input.data, args.output.data,        select.token_ids,
      select.row_top_k,    select.row_top_p,       select.sequence_lengths, select.topk_ids,
      select.topk_weights, select.non_finite};
  return const_cast<void*>(pointers[static_cast<size_t>(array)]);
}

void set_pointer(SeForwardArgs* args, int array, void* data) {
  switch (array) {
    case kHidden:
      args->hidden.data = data;
      break;
    case kRouterInputArray:
      args->router_input.data = data;
      break;
    case kOutput:
      args->output.data = data;
      break;
    case kTokenIds:
      args->select.token_ids = static_cast<const int32_t*>(data);
      break;
    case kRowTopK:
      args->select.row_top_k = static_cast<const uint8_t*>(data);
      break;
    case kRowTopP:
      args->select.row_top_p = static_cast<const double*>(data);
      break;
    case kSequenceLengths:
      args->select.sequence_lengths = static_cast<const int32_t*>(data);
      break;
    case kTopkIds:
      args->select.topk_ids = static_cast<int32_t*>(data);
      break;
    case kTopkWeights:
      args->select.topk_weights = static_cast<float*>(data);
      break;
    case kNonFinite:
      args->select.non_finite = static_cast<uint8_t*>(data);
      break;
    default:
      break;
  }
}

uint64_t row_bytes(const SeMoeLayer& layer, const SeForwardArgs& args, int array) {
  const auto top_k = static_cast<uint64_t>(layer.routing.top_k);
  const auto bytes_of = [](const SeTensor& rows) {
    return static_cast<uint64_t>(rows.shape[1] * dtype_bytes(rows.dtype));
  };
  switch (array) {
    case kHidden:
      return bytes_of(args.hidden);
    case kRouterInputArray:
      return bytes_of(args.router_input);
    case kOutput:
      return bytes_of(args.output);
    case kTokenIds:
      return sizeof(int32_t);
    case kRowTopK:
    case kNonFinite:
      return sizeof(uint8_t);
    case kRowTopP:
      return sizeof(double);
    case kTopkIds:
      return top_k * sizeof(int32_t);
    case kTopkWeights:
      return top_k * sizeof(float);
    default:
      return 0;
  }
}

bool is_result(const SeForwardArgs& args, int array) {
  const bool is_routing = array == kTopkIds || array == kTopkWeights;
  return array == kOutput || array == kNonFinite || (is_routing && args.replay == 0);
}

}  // namespace sparse_experts::engine
