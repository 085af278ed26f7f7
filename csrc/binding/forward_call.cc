#include "binding/forward_call.h"

#include <cstring>
#include <string>

#include "core/numeric.h"

namespace sparse_experts::binding {
namespace {

constexpr uint64_t kStagingAlignment = 64;

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

void ForwardTask::run(DeviceExecutor& /*executor*/) noexcept {
  try {
    if (cancel.load(std::memory_order_relaxed) != 0) {
      throw_if_failed(Failure::from(Status::cancelled()));
    }
    if (args_.select.num_tokens == 0) return;
    layer_->forward(args_);
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
