#include "binding/forward_request.h"

#include <limits>
#include <string>

#include "binding/environment.h"
#include "binding/native_buffer.h"
#include "core/dtype.h"

namespace sparse_experts::binding {

const std::array<const char*, kNumForwardArrays> kArrayNames = {
    "hidden",          "routerInput", "output",      "tokenIds", "topK",
    "sequenceLengths", "topkIds",     "topkWeights", "nonFinite"};

namespace {

// The request's properties: the arrays, then these.
enum RequestKey {
  kNumTokensKey = kNumForwardArrays,
  kDtypeKey,
  kTopPKey,
  kReplayKey,
  kNumRequestKeys
};
constexpr std::array<const char*, kNumRequestKeys - kNumForwardArrays> kOtherNames = {
    "numTokens", "dtype", "topP", "replay"};

// Reads the properties of a request in one call of JavaScript, which knows its objects' shape. One
// by one, each by its name, they are much of what an empty call takes.
class RequestReader {
 public:
  explicit RequestReader(const Napi::Object& request) : env_(request.Env()) {
    Napi::FunctionReference& read = Environment::of(env_).read_request;
    if (read.IsEmpty()) {
      std::string script = "request => [";
      for (uint32_t key = 0; key < kNumRequestKeys; ++key)
        script += std::string("request.") + name_of(key) + ", ";
      read = Napi::Persistent(env_.RunScript(script + "]").As<Napi::Function>());
    }
    values_ = read.Call({request});
  }

  Napi::Value get(uint32_t key) const {
    napi_value value = nullptr;
    if (napi_get_element(env_, values_, key, &value) != napi_ok) throw Napi::Error::New(env_);
    return {env_, value};
  }
  static const char* name_of(uint32_t key) {
    return key < kNumForwardArrays ? kArrayNames[key] : kOtherNames[key - kNumForwardArrays];
  }

 private:
  Napi::Env env_;
  napi_value values_;
};

void check_resizable_arrays(const ForwardRequest& request, Environment* environment) {
  for (int array : {kHidden, kRouterInputArray, kOutput, kTopkIds, kTopkWeights, kNonFinite}) {
    const Napi::Value& value = request.values[array];
    if (request.is_present[array] && value.IsTypedArray() && environment->is_resizable(value)) {
      fail_argument(std::string(kArrayNames[array]) + " lies in a resizable ArrayBuffer");
    }
  }
}

}  // namespace

bool ForwardRequest::writes(int array) const {
  switch (array) {
    case kOutput:
    case kNonFinite:
      return true;
    case kTopkIds:
    case kTopkWeights:
      return !replay;
    default:
      return false;
  }
}

ForwardRequest parse_forward_request(const Napi::Value& value, const LayerState& state) {
  const SeMoeLayer& layer = state.layer();
  const RequestReader reader(object_argument(value, "request"));
  ForwardRequest request;
  const int64_t top_k = layer.routing.top_k;
  // Slots are numbered in 32 bits.
  request.num_tokens = integer_argument(reader.get(kNumTokensKey), "numTokens", 0,
                                        std::numeric_limits<int32_t>::max() / top_k);
  request.dtype = float_dtype_argument(reader.get(kDtypeKey), "dtype");
  request.top_p = number_argument(reader.get(kTopPKey), "topP");
  request.replay = boolean_argument(reader.get(kReplayKey), "replay");
  for (int array = 0; array < kNumForwardArrays; ++array) {
    request.values[array] = reader.get(array);
    request.is_present[array] = !is_absent(request.values[array]);
  }
  request.call_top_k = top_k;
  if (request.values[kRowTopK].IsNumber()) {
    request.call_top_k = integer_argument(request.values[kRowTopK], "topK", 0, kMaxCount);
    request.is_present[kRowTopK] = false;
  } else {
    request.is_present[kRowTopK] = true;
  }
  check_resizable_arrays(request, &Environment::of(value.Env()));

  // From here on no JavaScript runs: the pointers stay valid.
  const int64_t tokens = request.num_tokens;
  const int64_t elements = multiply(tokens, layer.hidden_size, "numTokens");
  auto take = [&](ForwardArray array, napi_typedarray_type type, int64_t length) {
    request.is_present[array] = true;
    request.views[array] = array_view(request.values[array], kArrayNames[array], type, length);
  };
  auto take_rows = [&](ForwardArray array) {
    auto memory =
        NativeBuffer::memory_of(request.values[array], kArrayNames[array], state.executor());
    if (!memory) return take(array, float_array_type(request.dtype), elements);
    const auto bytes = static_cast<uint64_t>(elements * dtype_bytes(request.dtype));
    if (memory->bytes() != bytes) {
      fail_argument("Expected " + std::to_string(bytes) + " bytes for " + kArrayNames[array] +
                    ", received " + std::to_string(memory->bytes()));
    }
    request.views[array] = {memory->data(), static_cast<uint64_t>(elements), bytes};
    request.is_present[array] = true;
    request.device_memory[array] = std::move(memory);
  };
  take_rows(kHidden);
  take_rows(kOutput);
  take(kTopkIds, napi_int32_array, tokens * top_k);
  take(kTopkWeights, napi_float32_array, tokens * top_k);
  take(kNonFinite, napi_uint8_array, tokens);
  if (request.is_present[kRouterInputArray]) take_rows(kRouterInputArray);
  if (request.is_present[kTokenIds]) take(kTokenIds, napi_int32_array, tokens);
  if (request.is_present[kRowTopK]) take(kRowTopK, napi_uint8_array, tokens);
  if (request.is_present[kSequenceLengths]) {
    request.views[kSequenceLengths] = array_view_any_length(
        request.values[kSequenceLengths], kArrayNames[kSequenceLengths], napi_int32_array);
  }
  return request;
}

}  // namespace sparse_experts::binding
