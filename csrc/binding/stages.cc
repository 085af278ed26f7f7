#include "binding/stages.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "binding/environment.h"
#include "binding/layer_description.h"

namespace sparse_experts::binding {
namespace {

constexpr int64_t kMaxSlots = std::numeric_limits<int32_t>::max();

SeTensor tensor(const ArrayView& view, int32_t dtype, std::initializer_list<int64_t> shape) {
  SeTensor result = {};
  result.data = view.data;
  result.dtype = dtype;
  result.rank = static_cast<int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), result.shape);
  int64_t stride = 1;
  for (int32_t axis = result.rank - 1; axis >= 0; --axis) {
    result.strides[axis] = stride;
    stride *= result.shape[axis];
  }
  return result;
}

// A private copy: an array in shared memory could change between a check and its use.
template <typename T>
std::vector<T> copy_of(const ArrayView& view) {
  const auto* data = view.as<const T>();
  return data == nullptr ? std::vector<T>() : std::vector<T>(data, data + view.length);
}

template <typename T>
void copy_back(const std::vector<T>& from, const ArrayView& to) {
  if (!from.empty()) std::memcpy(to.data, from.data(), from.size() * sizeof(T));
}

std::shared_ptr<DeviceExecutor> device_argument(const Napi::CallbackInfo& info) {
  auto executor = Environment::of(info.Env()).device(text_argument(info[0], "device"));
  if (!executor->has_host_memory()) {
    fail(ErrorCode::kDeviceUnavailable, "stages on host arrays run on 'cpu' only");
  }
  return executor;
}

template <typename Run>
void run_stage(DeviceExecutor& executor, Run&& run) {
  SeStatus status = {};
  int32_t code = SE_OK;
  executor.run_exclusive([&] { code = run(executor.backend(), executor.device(), &status); });
  throw_if_failed(Failure::from(status, code));
}

// (device, hidden, hiddenDtype, routerWeight, weightDtype, bias, numTokens, hiddenSize, numExperts,
// routerLogits)
void gate(const Napi::CallbackInfo& info) {
  const auto executor = device_argument(info);
  const int32_t hidden_dtype = float_dtype_argument(info[2], "hiddenDtype");
  const int32_t weight_dtype = float_dtype_argument(info[4], "weightDtype");
  const int64_t tokens = integer_argument(info[6], "numTokens", 0, kMaxSlots);
  const int64_t hidden_size = integer_argument(info[7], "hiddenSize", 1, kMaxCount);
  const int64_t experts = integer_argument(info[8], "numExperts", 1, kMaxCount);
  const ArrayView hidden = array_view(info[1], "hidden", float_array_type(hidden_dtype),
                                      multiply(tokens, hidden_size, "hidden"));
  const ArrayView weight = array_view(info[3], "routerWeight", float_array_type(weight_dtype),
                                      multiply(experts, hidden_size, "routerWeight"));
  ArrayView bias;
  if (!is_absent(info[5])) bias = array_view(info[5], "bias", napi_float32_array, experts);
  const ArrayView logits = array_view(info[9], "routerLogits", napi_float32_array,
                                      multiply(tokens, experts, "routerLogits"));
  if (tokens == 0) return;
  SeGateArgs args = {};
  args.hidden = tensor(hidden, hidden_dtype, {tokens, hidden_size});
  args.router_weight = tensor(weight, weight_dtype, {experts, hidden_size});
  args.bias = bias.as<const float>();
  args.router_logits = logits.as<float>();
  run_stage(*executor, [&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.gate(device, &args, status);
  });
}

// (device, routing, vectors, routerLogits, numTokens, tokenIds, topK, topP, sequenceLengths,
// topkIds, topkWeights, nonFinite)
void select_experts(const Napi::CallbackInfo& info) {
  const auto executor = device_argument(info);
  SeRouting routing = parse_routing(object_argument(info[1], "routing"));
  const Napi::Object vectors = object_argument(info[2], "vectors");
  const Napi::Value selection_bias = vectors.Get("selectionBias");
  const Napi::Value per_expert_scale = vectors.Get("perExpertScale");
  const Napi::Value hash_table = vectors.Get("hashTable");
  const int64_t top_k = routing.top_k;
  const int64_t tokens = integer_argument(info[4], "numTokens", 0, kMaxSlots / top_k);
  const double top_p = number_argument(info[7], "topP");
  if (!(top_p > 0 && top_p <= 1)) fail_argument("Expected topP in (0, 1]");

  // From here on no JavaScript runs: the pointers stay valid.
  SeSelectArgs args = {};
  args.num_tokens = tokens;
  args.top_p = top_p;
  args.router_logits = array_view(info[3], "routerLogits", napi_float32_array,
                                  multiply(tokens, routing.num_experts, "routerLogits"))
                           .as<const float>();
  if (!is_absent(selection_bias)) {
    routing.selection_bias =
        array_view(selection_bias, "selectionBias", napi_float32_array, routing.num_experts)
            .as<const float>();
  }
  if (!is_absent(per_expert_scale)) {
    routing.per_expert_scale =
        array_view(per_expert_scale, "perExpertScale", napi_float32_array, routing.num_experts)
            .as<const float>();
  }
  std::vector<int32_t> table, token_ids, sequence_lengths;
  std::vector<uint8_t> row_top_k;
  if (routing.hash_routed != 0) {
    const ArrayView view = array_view_any_length(hash_table, "hashTable", napi_int32_array);
    if (view.length == 0 || view.length % static_cast<uint64_t>(top_k) != 0) {
      fail_argument("Expected [vocabSize, topK] elements for hashTable");
    }
    routing.vocab_size = static_cast<int64_t>(view.length) / top_k;
    table = copy_of<int32_t>(view);
    check_hash_table({table.data(), view.length, view.bytes}, routing);
    routing.hash_table = table.data();
    token_ids = copy_of<int32_t>(array_view(info[5], "tokenIds", napi_int32_array, tokens));
    for (int32_t id : token_ids) {
      if (id < 0 || id >= routing.vocab_size) {
        fail_argument("tokenIds has " + std::to_string(id) + ", outside of 0 … " +
                      std::to_string(routing.vocab_size - 1));
      }
    }
    args.token_ids = token_ids.data();
  }
  args.call_top_k = top_k;
  if (info[6].IsNumber()) {
    args.call_top_k = integer_argument(info[6], "topK", 0, top_k);
  } else {
    row_top_k = copy_of<uint8_t>(array_view(info[6], "topK", napi_uint8_array, tokens));
    for (uint8_t count : row_top_k) {
      if (count > top_k) fail_argument("topK of a row exceeds " + std::to_string(top_k));
    }
    args.row_top_k = row_top_k.data();
  }
  if (!is_absent(info[8])) {
    sequence_lengths =
        copy_of<int32_t>(array_view_any_length(info[8], "sequenceLengths", napi_int32_array));
    int64_t sum = 0;
    for (int32_t length : sequence_lengths) {
      if (length < 0) fail_argument("sequenceLengths has a negative length");
      sum += length;
    }
    if (sum != tokens) fail_argument("sequenceLengths do not sum to numTokens");
    args.sequence_lengths = sequence_lengths.data();
    args.num_sequences = static_cast<int64_t>(sequence_lengths.size());
  }
  const ArrayView ids = array_view(info[9], "topkIds", napi_int32_array, tokens * top_k);
  const ArrayView weights = array_view(info[10], "topkWeights", napi_float32_array, tokens * top_k);
  const ArrayView flags = array_view(info[11], "nonFinite", napi_uint8_array, tokens);
  if (tokens == 0) return;
  std::vector<int32_t> staged_ids(ids.length);
  std::vector<float> staged_weights(weights.length);
  std::vector<uint8_t> staged_flags(flags.length);
  args.topk_ids = staged_ids.data();
  args.topk_weights = staged_weights.data();
  args.non_finite = staged_flags.data();
  run_stage(*executor, [&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.select_experts(device, &routing, &args, status);
  });
  copy_back(staged_ids, ids);
  copy_back(staged_weights, weights);
  copy_back(staged_flags, flags);
}

// (device, topkIds, numExperts, expertOffsets, sortedSlots)
void dispatch(const Napi::CallbackInfo& info) {
  const auto executor = device_argument(info);
  const int64_t experts = integer_argument(info[2], "numExperts", 1, kMaxSlots - 1);
  const std::vector<int32_t> ids =
      copy_of<int32_t>(array_view_any_length(info[1], "topkIds", napi_int32_array));
  const auto num_slots = static_cast<int64_t>(ids.size());
  if (num_slots > kMaxSlots) fail_argument("Expected fewer than 2^31 slots");
  const ArrayView offsets = array_view(info[3], "expertOffsets", napi_int32_array, experts + 1);
  const ArrayView slots = array_view(info[4], "sortedSlots", napi_int32_array, num_slots);
  std::vector<int32_t> staged_offsets(offsets.length);
  std::vector<int32_t> staged_slots(slots.length);
  SeDispatchArgs args = {num_slots, experts, ids.data(), staged_offsets.data(),
                         staged_slots.data()};
  run_stage(*executor, [&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.dispatch(device, &args, status);
  });
  copy_back(staged_offsets, offsets);
  copy_back(staged_slots, slots);
}

void check_dispatch(const std::vector<int32_t>& offsets, const std::vector<int32_t>& slots) {
  if (offsets.front() != 0 || !std::is_sorted(offsets.begin(), offsets.end()) ||
      static_cast<uint64_t>(offsets.back()) > slots.size()) {
    fail_argument("expertOffsets must rise from 0 to at most the number of slots");
  }
  for (int32_t i = 0; i < offsets.back(); ++i) {
    if (slots[i] < 0 || static_cast<uint64_t>(slots[i]) >= slots.size()) {
      fail_argument("sortedSlots names slot " + std::to_string(slots[i]) + " of " +
                    std::to_string(slots.size()));
    }
  }
}

// (device, request, output)
void expert_matmul(const Napi::CallbackInfo& info) {
  const auto executor = device_argument(info);
  const Napi::Object request = object_argument(info[1], "request");
  SeExpertMatmulArgs args = {};
  const int32_t x_dtype = float_dtype_argument(request.Get("xDtype"), "xDtype");
  const int32_t weights_dtype = float_dtype_argument(request.Get("weightsDtype"), "weightsDtype");
  const int64_t x_rows = integer_property(request, "xRows", 0, kMaxSlots);
  const int64_t experts = integer_property(request, "numExperts", 1, kMaxSlots - 1);
  const int64_t rows = integer_property(request, "rows", 1, kMaxCount);
  const int64_t cols = integer_property(request, "cols", 1, kMaxCount);
  args.top_k = integer_property(request, "topK", 1, kMaxSlots);
  args.gather = boolean_property(request, "gather") ? 1 : 0;
  args.interleaved = boolean_property(request, "interleaved") ? 1 : 0;
  const Napi::Value activation = request.Get("activation");
  if (!is_absent(activation)) {
    args.apply_activation = 1;
    args.activation = parse_activation(object_argument(activation, "activation"), "swigluLimit");
  }
  const Napi::Value x_value = request.Get("x");
  const Napi::Value weights_value = request.Get("weights");
  const Napi::Value bias_value = request.Get("bias");
  const Napi::Value offsets_value = request.Get("expertOffsets");
  const Napi::Value slots_value = request.Get("sortedSlots");

  // From here on no JavaScript runs: the pointers stay valid.
  const bool gated = args.apply_activation != 0 && args.activation.gated != 0;
  if (gated && rows % 2 != 0) fail_argument("Expected an even number of rows for gated experts");
  const int64_t width = gated ? rows / 2 : rows;
  const ArrayView x =
      array_view(x_value, "x", float_array_type(x_dtype), multiply(x_rows, cols, "x"));
  const int64_t matrix = multiply(rows, cols, "weights");
  const ArrayView weights = array_view(weights_value, "weights", float_array_type(weights_dtype),
                                       multiply(experts, matrix, "weights"));
  ArrayView bias;
  if (!is_absent(bias_value)) {
    bias = array_view(bias_value, "bias", napi_float32_array, multiply(experts, rows, "bias"));
  }
  const std::vector<int32_t> offsets =
      copy_of<int32_t>(array_view(offsets_value, "expertOffsets", napi_int32_array, experts + 1));
  args.num_slots = args.gather != 0 ? multiply(x_rows, args.top_k, "topK") : x_rows;
  if (args.num_slots > kMaxSlots) fail_argument("Expected fewer than 2^31 slots");
  const std::vector<int32_t> slots =
      copy_of<int32_t>(array_view(slots_value, "sortedSlots", napi_int32_array, args.num_slots));
  check_dispatch(offsets, slots);
  const ArrayView output =
      array_view(info[2], "output", napi_float32_array, multiply(args.num_slots, width, "output"));
  if (args.num_slots == 0) return;
  args.x = tensor(x, x_dtype, {x_rows, cols});
  args.weights = tensor(weights, weights_dtype, {experts, rows, cols});
  args.bias = tensor(bias, SE_F32, {experts, rows});
  args.expert_offsets = offsets.data();
  args.sorted_slots = slots.data();
  args.output = tensor(output, SE_F32, {args.num_slots, width});
  run_stage(*executor, [&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.expert_matmul(device, &args, status);
  });
}

// (device, expertOutput, topkIds, topkWeights, numTokens, topK, hiddenSize, output)
void combine(const Napi::CallbackInfo& info) {
  const auto executor = device_argument(info);
  const int64_t top_k = integer_argument(info[5], "topK", 1, kMaxSlots);
  const int64_t tokens = integer_argument(info[4], "numTokens", 0, kMaxSlots / top_k);
  const int64_t hidden_size = integer_argument(info[6], "hiddenSize", 1, kMaxCount);
  const int64_t num_slots = tokens * top_k;
  const ArrayView expert_output = array_view(info[1], "expertOutput", napi_float32_array,
                                             multiply(num_slots, hidden_size, "expertOutput"));
  std::vector<int32_t> ids;
  if (!is_absent(info[2])) {
    ids = copy_of<int32_t>(array_view(info[2], "topkIds", napi_int32_array, num_slots));
  }
  const ArrayView weights = array_view(info[3], "topkWeights", napi_float32_array, num_slots);
  const ArrayView output =
      array_view(info[7], "output", napi_float32_array, multiply(tokens, hidden_size, "output"));
  if (tokens == 0) return;
  SeCombineArgs args = {};
  args.expert_output = tensor(expert_output, SE_F32, {num_slots, hidden_size});
  args.num_tokens = tokens;
  args.top_k = top_k;
  args.topk_ids = ids.empty() ? nullptr : ids.data();
  args.topk_weights = weights.as<const float>();
  args.output = tensor(output, SE_F32, {tokens, hidden_size});
  run_stage(*executor, [&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.combine(device, &args, status);
  });
}

using Stage = void (*)(const Napi::CallbackInfo& info);

template <Stage stage>
Napi::Value call_stage(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { stage(info); });
  return info.Env().Undefined();
}

}  // namespace

void define_stages(Napi::Env env, Napi::Object exports) {
  exports.Set("gate", Napi::Function::New<call_stage<gate>>(env, "gate"));
  exports.Set("selectExperts",
              Napi::Function::New<call_stage<select_experts>>(env, "selectExperts"));
  exports.Set("dispatch", Napi::Function::New<call_stage<dispatch>>(env, "dispatch"));
  exports.Set("expertMatmul", Napi::Function::New<call_stage<expert_matmul>>(env, "expertMatmul"));
  exports.Set("combine", Napi::Function::New<call_stage<combine>>(env, "combine"));
}

}  // namespace sparse_experts::binding
