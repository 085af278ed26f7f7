#include "binding/forward_call.h"

#include <cstring>
#include <limits>

#include "binding/native_buffer.h"
#include "core/dtype.h"
#include "core/numeric.h"
#include "ops/validate.h"

namespace sparse_experts::binding {
namespace {

constexpr std::array<const char*, kNumForwardArrays> kArrayNames = {
    "hidden",          "routerInput", "output",      "tokenIds", "topK",
    "sequenceLengths", "topkIds",     "topkWeights", "nonFinite"};
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
constexpr uint64_t kStagingAlignment = 64;

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

SeTensor matrix(void* data, int32_t dtype, int64_t rows, int64_t cols) {
  SeTensor tensor = {};
  tensor.data = data;
  tensor.dtype = dtype;
  tensor.rank = 2;
  tensor.shape[0] = rows;
  tensor.shape[1] = cols;
  tensor.strides[0] = cols;
  tensor.strides[1] = 1;
  return tensor;
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
  if (!(request.top_p > 0 && request.top_p <= 1)) fail_argument("Expected topP in (0, 1]");
  request.replay = boolean_argument(reader.get(kReplayKey), "replay");
  for (int array = 0; array < kNumForwardArrays; ++array) {
    request.values[array] = reader.get(array);
    request.is_present[array] = !is_absent(request.values[array]);
  }
  request.call_top_k = top_k;
  if (request.values[kRowTopK].IsNumber()) {
    request.call_top_k = integer_argument(request.values[kRowTopK], "topK", 0, top_k);
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
  if (layer.routing.hash_routed != 0 && !request.replay && !request.is_present[kTokenIds]) {
    fail_argument("Expected tokenIds: the layer is hash-routed");
  }
  return request;
}

ForwardTask::ForwardTask(const ForwardRequest& request, std::shared_ptr<LayerState> layer,
                         bool is_async)
    : layer_(std::move(layer)), device_memory_(request.device_memory) {
  uint64_t staging_bytes = 0;
  std::array<bool, kNumForwardArrays> is_staged = {};
  for (int array = 0; array < kNumForwardArrays; ++array) {
    if (!request.is_present[array]) continue;
    Memory& memory = memory_[array];
    memory = {request.views[array].data, nullptr, request.views[array].bytes, request.writes(array),
              false};
    const bool is_bulk = array == kHidden || array == kRouterInputArray || array == kOutput;
    is_staged[array] = is_bulk ? is_async && memory.bytes <= kSnapshotBytes : true;
    if (device_memory_[array]) is_staged[array] = false;
    memory.copy_on_executor = memory.writes && !is_bulk && memory.bytes > kSnapshotBytes;
    if (is_staged[array]) staging_bytes += round_up(memory.bytes, kStagingAlignment);
  }
  // new without () leaves the memory as it is: each part is copied into, or written by the backend.
  staging_.reset(new uint8_t[staging_bytes + kStagingAlignment]);
  const auto begin = reinterpret_cast<uintptr_t>(staging_.get());
  uint8_t* next = staging_.get() + (round_up(begin, kStagingAlignment) - begin);
  for (int array = 0; array < kNumForwardArrays; ++array) {
    if (!is_staged[array]) continue;
    Memory& memory = memory_[array];
    memory.staged = next;
    next += round_up(memory.bytes, kStagingAlignment);
    if (memory.bytes == 0) continue;
    if (!memory.writes) {
      std::memcpy(memory.staged, memory.original, memory.bytes);
    } else if (array == kNonFinite) {
      std::memset(memory.staged, 0, memory.bytes);
    }
  }
  build_arguments(request);
  throw_if_failed(
      Failure::from(validate_select_arrays(layer_->layer().routing, args_.select, request.replay)));
}

void ForwardTask::build_arguments(const ForwardRequest& request) {
  const SeMoeLayer& layer = layer_->layer();
  const int64_t tokens = request.num_tokens;
  args_.hidden = matrix(memory<void>(kHidden), request.dtype, tokens, layer.hidden_size);
  args_.router_input =
      matrix(memory<void>(kRouterInputArray), request.dtype, tokens, layer.hidden_size);
  args_.output = matrix(memory<void>(kOutput), request.dtype, tokens, layer.hidden_size);
  args_.select.num_tokens = tokens;
  args_.select.token_ids = memory<const int32_t>(kTokenIds);
  args_.select.row_top_k = memory<const uint8_t>(kRowTopK);
  args_.select.call_top_k = request.call_top_k;
  args_.select.top_p = request.top_p;
  args_.select.sequence_lengths = memory<const int32_t>(kSequenceLengths);
  args_.select.num_sequences = static_cast<int64_t>(request.views[kSequenceLengths].length);
  args_.select.topk_ids = memory<int32_t>(kTopkIds);
  args_.select.topk_weights = memory<float>(kTopkWeights);
  args_.select.non_finite = memory<uint8_t>(kNonFinite);
  args_.replay = request.replay ? 1 : 0;
  if (device_memory_[kHidden]) args_.device_arrays |= SE_ARRAY_HIDDEN;
  if (device_memory_[kRouterInputArray]) args_.device_arrays |= SE_ARRAY_ROUTER_INPUT;
  if (device_memory_[kOutput]) args_.device_arrays |= SE_ARRAY_OUTPUT;
  args_.num_threads = layer_->num_threads();
  // The backend's ABI is C: it polls a plain int32_t.
  static_assert(sizeof(cancel) == sizeof(int32_t) && std::atomic<int32_t>::is_always_lock_free);
  args_.cancel = reinterpret_cast<const int32_t*>(&cancel);
}

void ForwardTask::run(DeviceExecutor& executor) noexcept {
  try {
    if (cancel.load(std::memory_order_relaxed) != 0) {
      throw_if_failed(Failure::from(Status::cancelled()));
    }
    const int64_t tokens = args_.select.num_tokens;
    if (tokens == 0) return;
    throw_if_failed(executor.loss());
    layer_->zero_unwritten();
    const uint64_t bytes = executor.backend().forward_workspace_bytes(
        executor.device(), &layer_->layer(), &layer_->options(), tokens);
    void* workspace = nullptr;
    uint64_t held_bytes = 0;
    throw_if_failed(executor.reserve_workspace(bytes, &workspace, &held_bytes));
    throw_if_failed(executor.call([&](const SeBackend& backend, SeDevice*, SeStatus* status) {
      return backend.forward(layer_->opened(), &args_, workspace, held_bytes, status);
    }));
    for (const Memory& memory : memory_) {
      if (memory.copy_on_executor) std::memcpy(memory.original, memory.staged, memory.bytes);
    }
  } catch (...) {
    failure_ = current_failure();
  }
}

void ForwardTask::copy_staged_results() const {
  for (const Memory& memory : memory_) {
    if (memory.writes && memory.staged != nullptr && !memory.copy_on_executor && memory.bytes > 0) {
      std::memcpy(memory.original, memory.staged, memory.bytes);
    }
  }
}

ForwardCall::ForwardCall(Napi::Env env, const Napi::Function& done, const ForwardRequest& request,
                         std::shared_ptr<ForwardTask> task)
    : PendingCall(env, done), task_(std::move(task)) {
  for (int array = 0; array < kNumForwardArrays; ++array) {
    if (!request.is_present[array] || request.device_memory[array]) continue;
    if (!request.writes(array) && !task_->is_in_place(array)) continue;
    Lease& lease = leases_[num_leases_];
    if (napi_create_reference(env, request.values[array], 1, &lease.reference) != napi_ok) {
      throw Napi::Error::New(env);
    }
    lease.data = request.views[array].data;
    lease.bytes = request.views[array].bytes;
    lease.array = array;
    ++num_leases_;
  }
  ++task_->layer()->calls_in_flight;
}

ForwardCall::~ForwardCall() {
  if (!completed_) --task_->layer()->calls_in_flight;
  for (int i = 0; i < num_leases_; ++i) napi_delete_reference(env_, leases_[i].reference);
}

bool ForwardCall::is_intact(const Lease& lease) const {
  napi_value value = nullptr;
  napi_typedarray_type type;
  ArrayView view;
  return napi_get_reference_value(env_, lease.reference, &value) == napi_ok && value != nullptr &&
         read_typed_array(env_, value, &type, &view) && view.data == lease.data &&
         view.bytes == lease.bytes;
}

Failure ForwardCall::complete() {
  completed_ = true;
  --task_->layer()->calls_in_flight;
  // Detached memory comes first: it also spoils the result of a call that ended well.
  for (int i = 0; i < num_leases_; ++i) {
    if (!is_intact(leases_[i])) {
      return {ErrorCode::kDetached, std::string(kArrayNames[leases_[i].array]) +
                                        " was detached or resized while a forward used it"};
    }
  }
  if (!task_->failure().is_ok()) return task_->failure();
  // Whoever was told "stopping" gets a cancelled call, also when the last expert was done already.
  if (task_->cancel.load(std::memory_order_relaxed) != 0) return Failure::from(Status::cancelled());
  task_->copy_staged_results();
  return {};
}

}  // namespace sparse_experts::binding
