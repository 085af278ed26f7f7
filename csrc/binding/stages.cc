#include "binding/stages.h"

#include <algorithm>
#include <limits>

#include "binding/environment.h"
#include "binding/layer_arguments.h"
#include "binding/load_items.h"
#include "binding/stage_memory.h"
#include "engine/encoded_matmul.h"

namespace sparse_experts::binding {
namespace {

constexpr int64_t kMaxSlots = std::numeric_limits<int32_t>::max();
constexpr auto kPrivate = StageMemory::kPrivate;

using Array = StageMemory::Array;

SeTensor tensor(void* data, int32_t dtype, std::initializer_list<int64_t> shape) {
  SeTensor result = {};
  result.data = data;
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

std::shared_ptr<DeviceExecutor> device_argument(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).device(text_argument(info[0], "device"));
}

// (device, hidden, hiddenDtype, routerWeight, weightDtype, bias, numTokens, hiddenSize, numExperts,
// routerLogits)
void gate(const Napi::CallbackInfo& info) {
  StageMemory memory(device_argument(info));
  const int32_t hidden_dtype = float_dtype_argument(info[2], "hiddenDtype");
  const int32_t weight_dtype = float_dtype_argument(info[4], "weightDtype");
  const int64_t tokens = integer_argument(info[6], "numTokens", 0, kMaxSlots);
  const int64_t hidden_size = integer_argument(info[7], "hiddenSize", 1, kMaxCount);
  const int64_t experts = integer_argument(info[8], "numExperts", 1, kMaxCount);
  const Array hidden = memory.read(info[1], "hidden", float_array_type(hidden_dtype),
                                   multiply(tokens, hidden_size, "hidden"));
  const Array weight = memory.read(info[3], "routerWeight", float_array_type(weight_dtype),
                                   multiply(experts, hidden_size, "routerWeight"));
  const Array bias = memory.read_optional(info[5], "bias", napi_float32_array, experts);
  const Array logits = memory.write(info[9], "routerLogits", napi_float32_array,
                                    multiply(tokens, experts, "routerLogits"));
  if (tokens == 0) return;
  memory.place();
  SeGateArgs args = {};
  args.hidden = tensor(memory.pointer<void>(hidden), hidden_dtype, {tokens, hidden_size});
  args.router_weight = tensor(memory.pointer<void>(weight), weight_dtype, {experts, hidden_size});
  args.bias = memory.pointer<const float>(bias);
  args.router_logits = memory.pointer<float>(logits);
  memory.run([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.gate(device, &args, status);
  });
}

// (device, routing, vectors, routerLogits, numTokens, tokenIds, topK, topP, sequenceLengths,
// topkIds, topkWeights, nonFinite)
void select_experts(const Napi::CallbackInfo& info) {
  StageMemory memory(device_argument(info));
  SeRouting routing = parse_routing(object_argument(info[1], "routing"));
  const Napi::Object vectors = object_argument(info[2], "vectors");
  const Napi::Value selection_bias = vectors.Get("selectionBias");
  const Napi::Value per_expert_scale = vectors.Get("perExpertScale");
  const Napi::Value hash_table = vectors.Get("hashTable");
  const int64_t top_k = routing.top_k;
  const int64_t experts = routing.num_experts;
  const int64_t tokens = integer_argument(info[4], "numTokens", 0, kMaxSlots / top_k);
  SeSelectArgs args = {};
  args.num_tokens = tokens;
  args.call_top_k = top_k;
  args.top_p = info[7].IsNumber() ? number_argument(info[7], "topP") : 1;

  // From here on no JavaScript runs: the pointers stay valid.
  const Array logits = memory.read(info[3], "routerLogits", napi_float32_array,
                                   multiply(tokens, experts, "routerLogits"));
  const Array bias =
      memory.read_optional(selection_bias, "selectionBias", napi_float32_array, experts);
  const Array scale =
      memory.read_optional(per_expert_scale, "perExpertScale", napi_float32_array, experts);
  Array table = StageMemory::kAbsent;
  Array token_ids = StageMemory::kAbsent;
  if (routing.hash_routed != 0) {
    int64_t length = 0;
    table = memory.read_any_length(hash_table, "hashTable", napi_int32_array, &length);
    routing.vocab_size = length / top_k;
    token_ids = memory.read(info[5], "tokenIds", napi_int32_array, tokens, kPrivate);
  }
  Array row_top_k = StageMemory::kAbsent;
  if (info[6].IsNumber()) {
    args.call_top_k = integer_argument(info[6], "topK", 0, kMaxCount);
  } else {
    row_top_k = memory.read(info[6], "topK", napi_uint8_array, tokens, kPrivate);
  }
  Array row_top_p = StageMemory::kAbsent;
  if (!info[7].IsNumber())
    row_top_p = memory.read(info[7], "topP", napi_float64_array, tokens, kPrivate);
  Array sequence_lengths = StageMemory::kAbsent;
  if (!is_absent(info[8])) {
    sequence_lengths =
        memory.read_any_length(info[8], "sequenceLengths", napi_int32_array, &args.num_sequences);
  }
  const Array ids = memory.write(info[9], "topkIds", napi_int32_array, tokens * top_k, kPrivate);
  const Array weights =
      memory.write(info[10], "topkWeights", napi_float32_array, tokens * top_k, kPrivate);
  const Array flags = memory.write_optional(info[11], "nonFinite", napi_uint8_array, tokens);
  if (tokens == 0) return;
  memory.place();
  routing.selection_bias = memory.pointer<const float>(bias);
  routing.per_expert_scale = memory.pointer<const float>(scale);
  routing.hash_table = memory.pointer<const int32_t>(table);
  args.router_logits = memory.pointer<const float>(logits);
  args.token_ids = memory.pointer<const int32_t>(token_ids);
  args.row_top_k = memory.pointer<const uint8_t>(row_top_k);
  args.row_top_p = memory.pointer<const double>(row_top_p);
  args.sequence_lengths = memory.pointer<const int32_t>(sequence_lengths);
  args.topk_ids = memory.pointer<int32_t>(ids);
  args.topk_weights = memory.pointer<float>(weights);
  args.non_finite = memory.pointer<uint8_t>(flags);
  memory.run([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.select_experts(device, &routing, &args, status);
  });
}

// (device, topkIds, numSlots, numExperts, expertOffsets, sortedSlots)
void dispatch(const Napi::CallbackInfo& info) {
  StageMemory memory(device_argument(info));
  const int64_t num_slots = integer_argument(info[2], "numSlots", 0, kMaxSlots);
  const int64_t experts = integer_argument(info[3], "numExperts", 1, kMaxSlots / 2);
  const Array ids = memory.read(info[1], "topkIds", napi_int32_array, num_slots, kPrivate);
  const Array offsets =
      memory.write(info[4], "expertOffsets", napi_int32_array, experts + 1, kPrivate);
  const Array slots = memory.write(info[5], "sortedSlots", napi_int32_array, num_slots, kPrivate);
  memory.place();
  SeDispatchArgs args = {};
  args.num_slots = num_slots;
  args.num_experts = experts;
  args.topk_ids = memory.pointer<const int32_t>(ids);
  args.expert_offsets = memory.pointer<int32_t>(offsets);
  args.sorted_slots = memory.pointer<int32_t>(slots);
  memory.run([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.dispatch(device, &args, status);
  });
}

// The experts' matrices as they are stored; empty: the weights are floats.
struct EncodedWeights {
  std::vector<EncodedMatrix> experts;
  std::vector<std::array<EncodedPart, 6>> parts;

  bool is_empty() const { return experts.empty(); }
  // Runs no JavaScript.
  void take_parts() {
    for (size_t e = 0; e < experts.size(); ++e) take_encoded_parts(parts[e], &experts[e]);
  }
};

EncodedWeights encoded_weights(const Napi::Value& value, int64_t num_experts) {
  EncodedWeights weights;
  if (!value.IsArray()) return weights;
  const Napi::Array array = array_argument(value, "weights");
  if (array.Length() != num_experts) fail_argument("Expected weights of every expert");
  for (uint32_t e = 0; e < array.Length(); ++e) {
    const Napi::Object matrix = object_argument(array.Get(e), "weights");
    weights.experts.push_back(parse_encoding(object_argument(matrix.Get("encoding"), "encoding")));
    weights.parts.push_back(read_encoded_parts(matrix.Get("buffers")));
  }
  return weights;
}

// (device, request, output)
void expert_matmul(const Napi::CallbackInfo& info) {
  const auto executor = device_argument(info);
  StageMemory memory(executor);
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
    args.activation = parse_activation(object_argument(activation, "activation"), "swigluLimit",
                                       "swigluGateLimit");
  }
  const Napi::Value x_value = request.Get("x");
  const Napi::Value weights_value = request.Get("weights");
  const Napi::Value bias_value = request.Get("bias");
  const Napi::Value offsets_value = request.Get("expertOffsets");
  const Napi::Value slots_value = request.Get("sortedSlots");
  EncodedWeights encoded = encoded_weights(weights_value, experts);
  if (!encoded.is_empty() && !executor->has_host_memory())
    fail_argument("The device does not multiply by stored weights");

  // From here on no JavaScript runs: the pointers stay valid.
  const bool gated = args.apply_activation != 0 && args.activation.gated != 0;
  const int64_t width = gated ? rows / 2 : rows;
  args.num_slots = args.gather != 0 ? multiply(x_rows, args.top_k, "topK") : x_rows;
  // Beyond this the byte lengths below could wrap around.
  if (args.num_slots > kMaxSlots) fail_argument("Expected fewer than 2^31 slots");
  const int64_t matrix = multiply(rows, cols, "weights");
  const Array x = memory.read(x_value, "x", float_array_type(x_dtype), multiply(x_rows, cols, "x"));
  encoded.take_parts();
  const int64_t elements = multiply(experts, matrix, "weights");
  const Array weights = encoded.is_empty() ? memory.read(weights_value, "weights",
                                                         float_array_type(weights_dtype), elements)
                                           : StageMemory::kAbsent;
  const Array bias =
      memory.read_optional(bias_value, "bias", napi_float32_array, multiply(experts, rows, "bias"));
  const Array offsets =
      memory.read(offsets_value, "expertOffsets", napi_int32_array, experts + 1, kPrivate);
  const Array slots =
      memory.read(slots_value, "sortedSlots", napi_int32_array, args.num_slots, kPrivate);
  const Array output = memory.write(info[2], "output", napi_float32_array,
                                    multiply(args.num_slots, width, "output"));
  if (args.num_slots == 0) return;
  memory.place();
  args.x = tensor(memory.pointer<void>(x), x_dtype, {x_rows, cols});
  args.weights = tensor(memory.pointer<void>(weights), weights_dtype, {experts, rows, cols});
  args.bias = tensor(memory.pointer<void>(bias), SE_F32, {experts, rows});
  args.expert_offsets = memory.pointer<const int32_t>(offsets);
  args.sorted_slots = memory.pointer<const int32_t>(slots);
  args.output = tensor(memory.pointer<void>(output), SE_F32, {args.num_slots, width});
  memory.run([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    if (encoded.is_empty()) return backend.expert_matmul(device, &args, status);
    return encoded_expert_matmul(backend, device, args, encoded.experts, status);
  });
}

// (device, expertOutput, expertOffsets, sortedSlots, topkWeights, numExperts, numTokens, topK,
// hiddenSize, output)
void combine(const Napi::CallbackInfo& info) {
  StageMemory memory(device_argument(info));
  const int64_t experts = integer_argument(info[5], "numExperts", 1, kMaxSlots / 2);
  const int64_t top_k = integer_argument(info[7], "topK", 1, kMaxSlots);
  const int64_t tokens = integer_argument(info[6], "numTokens", 0, kMaxSlots / top_k);
  const int64_t hidden_size = integer_argument(info[8], "hiddenSize", 1, kMaxCount);
  const int64_t num_slots = tokens * top_k;
  const Array expert_output = memory.read(info[1], "expertOutput", napi_float32_array,
                                          multiply(num_slots, hidden_size, "expertOutput"));
  const Array offsets =
      memory.read(info[2], "expertOffsets", napi_int32_array, experts + 1, kPrivate);
  const Array slots = memory.read(info[3], "sortedSlots", napi_int32_array, num_slots, kPrivate);
  const Array weights = memory.read(info[4], "topkWeights", napi_float32_array, num_slots);
  const Array output =
      memory.write(info[9], "output", napi_float32_array, multiply(tokens, hidden_size, "output"));
  if (tokens == 0) return;
  memory.place();
  SeCombineArgs args = {};
  args.expert_output =
      tensor(memory.pointer<void>(expert_output), SE_F32, {num_slots, hidden_size});
  args.num_tokens = tokens;
  args.top_k = top_k;
  args.num_experts = experts;
  args.expert_offsets = memory.pointer<const int32_t>(offsets);
  args.sorted_slots = memory.pointer<const int32_t>(slots);
  args.topk_weights = memory.pointer<const float>(weights);
  args.output = tensor(memory.pointer<void>(output), SE_F32, {tokens, hidden_size});
  memory.run([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
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
