#include "binding/forward_request.h"

#include <limits>
#include <string>

#include "binding/environment.h"
#include "binding/native_buffer.h"
#include "core/dtype.h"

namespace sparse_experts::binding {

const std::array<const char*, kNumForwardArrays> kArrayNames = {
    "hidden", "routerInput",     "output",  "tokenIds",    "topK",
    "topP",   "sequenceLengths", "topkIds", "topkWeights", "nonFinite"};

namespace {

// The request's properties: the arrays, then these.
enum RequestKey {
  kNumTokensKey = kNumForwardArrays,
  kDtypeKey,
  kReplayKey,
  kInPlaceKey,
  kCopiesKey,
  kNumRequestKeys
};
constexpr std::array<const char*, kNumRequestKeys - kNumForwardArrays> kOtherNames = {
    "numTokens", "dtype", "replay", "inPlace", "copies"};

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

// An item of the request's copies. Its arrays' memory is looked at later.
struct CopyValues {
  Napi::Value to;
  Napi::Value from;
  int64_t first = 0;
};

std::vector<CopyValues> read_copies(const Napi::Value& value) {
  std::vector<CopyValues> copies;
  if (is_absent(value)) return copies;
  const Napi::Array items = array_argument(value, "copies");
  for (uint32_t i = 0; i < items.Length(); ++i) {
    const Napi::Object item = object_argument(items.Get(i), "copies");
    copies.push_back({item.Get("to"), item.Get("from"),
                      integer_property(item, "first", 0, (int64_t{1} << 53) - 1)});
  }
  return copies;
}

// Takes pointers: no JavaScript runs any more.
class ArrayReader {
 public:
  ArrayReader(ForwardRequest* request, DeviceExecutor& executor)
      : request_(*request), executor_(executor) {}

  void take(int array, napi_typedarray_type type, int64_t length) {
    set(array, array_view(request_.arrays[array].value, kArrayNames[array], type, length));
  }
  int64_t take_any_length(int array, napi_typedarray_type type) {
    const ArrayView view =
        array_view_any_length(request_.arrays[array].value, kArrayNames[array], type);
    set(array, view);
    return static_cast<int64_t>(view.length);
  }
  // A typed array, or a block of the device's memory.
  void take_rows(int array, int32_t dtype, int64_t elements, SeForwardArray device_bit) {
    auto memory =
        NativeBuffer::memory_of(request_.arrays[array].value, kArrayNames[array], executor_);
    if (!memory) return take(array, float_array_type(dtype), elements);
    const auto bytes = static_cast<uint64_t>(elements * dtype_bytes(dtype));
    if (memory->bytes() != bytes) {
      fail_argument("Expected " + std::to_string(bytes) + " bytes for " + kArrayNames[array] +
                    ", received " + std::to_string(memory->bytes()));
    }
    set(array, {memory->data(), static_cast<uint64_t>(elements), bytes});
    request_.arrays[array].device_memory = std::move(memory);
    request_.args.device_arrays |= device_bit;
  }
  void take_copy(const CopyValues& values, int32_t dtype, int64_t elements) {
    const napi_typedarray_type type = float_array_type(dtype);
    const ArrayView to = array_view(values.to, "copies.to", type, elements);
    const ArrayView from = array_view(values.from, "copies.from", type, elements);
    if (values.first >= elements) return;
    const uint64_t begin = array_bytes(type, values.first);
    request_.copies.push_back(
        {to.as<uint8_t>() + begin, from.as<uint8_t>() + begin, to.bytes - begin});
  }

 private:
  void set(int array, const ArrayView& view) {
    ForwardRequest::Array& to = request_.arrays[array];
    to.is_present = true;
    to.data = view.data;
    to.bytes = view.bytes;
    // NULL is an array that is not there, and an empty one is.
    static int64_t nothing = 0;
    set_pointer(&request_.args, array, view.bytes > 0 ? view.data : &nothing);
  }

  ForwardRequest& request_;
  DeviceExecutor& executor_;
};

// Of the arrays that other threads may use in place: of the others they have copies.
void refuse_resizable_arrays(const ForwardRequest& request, Environment* environment) {
  for (int array : {kHidden, kRouterInputArray, kOutput}) {
    const Napi::Value& value = request.arrays[array].value;
    if (value.IsTypedArray() && environment->is_resizable(value)) {
      fail_argument(std::string(kArrayNames[array]) + " lies in a resizable ArrayBuffer");
    }
  }
}

}  // namespace

ForwardRequest read_forward_request(const Napi::Value& value, const LayerState& layer) {
  const RequestReader reader(object_argument(value, "request"));
  const int64_t top_k = layer.layer().routing.top_k;
  const int64_t hidden_size = layer.layer().hidden_size;
  ForwardRequest request;
  SeForwardArgs& args = request.args;
  // Slots are numbered in 32 bits.
  const int64_t tokens = integer_argument(reader.get(kNumTokensKey), "numTokens", 0,
                                          std::numeric_limits<int32_t>::max() / top_k);
  const int32_t dtype = float_dtype_argument(reader.get(kDtypeKey), "dtype");
  args.select.num_tokens = tokens;
  args.replay = boolean_argument(reader.get(kReplayKey), "replay") ? 1 : 0;
  args.hidden = args.router_input = args.output = rows_tensor(nullptr, dtype, tokens, hidden_size);
  args.num_threads = layer.num_threads();
  for (int array = 0; array < kNumForwardArrays; ++array) {
    request.arrays[array].value = reader.get(array);
  }
  const int64_t in_place = integer_argument(reader.get(kInPlaceKey), "inPlace", 0, 7);
  for (int array : {kHidden, kRouterInputArray, kOutput}) {
    request.arrays[array].is_in_place = (in_place >> array & 1) != 0;
  }
  for (int array : {kOutput, kNonFinite}) request.arrays[array].writes = true;
  for (int array : {kTopkIds, kTopkWeights}) request.arrays[array].writes = args.replay == 0;
  const std::vector<CopyValues> copies = read_copies(reader.get(kCopiesKey));
  const auto has = [&](int array) { return !is_absent(request.arrays[array].value); };
  const bool has_row_top_k = !request.arrays[kRowTopK].value.IsNumber();
  args.select.call_top_k =
      has_row_top_k ? top_k
                    : integer_argument(request.arrays[kRowTopK].value, "topK", 0, kMaxCount);
  const bool has_row_top_p = !request.arrays[kRowTopP].value.IsNumber();
  args.select.top_p = has_row_top_p ? 1 : number_argument(request.arrays[kRowTopP].value, "topP");
  refuse_resizable_arrays(request, &Environment::of(value.Env()));

  const int64_t elements = multiply(tokens, hidden_size, "numTokens");
  ArrayReader arrays(&request, layer.executor());
  arrays.take_rows(kHidden, dtype, elements, SE_ARRAY_HIDDEN);
  arrays.take_rows(kOutput, dtype, elements, SE_ARRAY_OUTPUT);
  arrays.take(kTopkIds, napi_int32_array, tokens * top_k);
  arrays.take(kTopkWeights, napi_float32_array, tokens * top_k);
  arrays.take(kNonFinite, napi_uint8_array, tokens);
  if (has(kRouterInputArray)) {
    arrays.take_rows(kRouterInputArray, dtype, elements, SE_ARRAY_ROUTER_INPUT);
  }
  if (has(kTokenIds)) arrays.take(kTokenIds, napi_int32_array, tokens);
  if (has_row_top_k) arrays.take(kRowTopK, napi_uint8_array, tokens);
  if (has_row_top_p) arrays.take(kRowTopP, napi_float64_array, tokens);
  if (has(kSequenceLengths)) {
    args.select.num_sequences = arrays.take_any_length(kSequenceLengths, napi_int32_array);
  }
  for (const CopyValues& copy : copies) arrays.take_copy(copy, dtype, elements);
  return request;
}

}  // namespace sparse_experts::binding
