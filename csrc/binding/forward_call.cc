#include "binding/forward_call.h"

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "binding/moe_layer_wrap.h"
#include "core/numeric.h"

namespace sparse_experts::binding {
namespace {

constexpr uint64_t kStagingAlignment = 64;
// What is copied before the task is queued: it takes less time than a thread that waits for it would.
constexpr uint64_t kFirstBytes = uint64_t{256} << 10;
// As long as the copying takes, unless the thread that copies has lost its processor.
constexpr std::chrono::microseconds kInputSpinTime{300};

}  // namespace

ForwardTask::ForwardTask(const ForwardRequest& request, std::shared_ptr<LayerState> layer,
                         bool is_async)
    : LayerTask(std::move(layer), is_async), copies_(request.copies) {
  args_ = request.args;
  bool is_small = args_.select.num_tokens > 0;
  uint64_t staging_bytes = 0;
  std::array<bool, kNumForwardArrays> is_staged = {};
  for (int array = 0; array < kNumForwardArrays; ++array) {
    const ForwardRequest::Array& from = request.arrays[array];
    if (!from.is_present) continue;
    const bool is_bulk = array == kHidden || array == kRouterInputArray || array == kOutput;
    const bool is_device = from.device_memory != nullptr;
    device_memory_[array] = from.device_memory;
    if (is_bulk && !is_device) is_small = is_small && from.bytes <= kSmallBytes;
    is_staged[array] = !is_device && (!is_bulk || (is_async && !from.is_in_place));
    memory_[array] = {from.data, nullptr, from.bytes, from.writes};
    if (is_staged[array]) staging_bytes += round_up(from.bytes, kStagingAlignment);
  }
  if (is_small && this->layer()->stage(&args_)) {
    for (int array = 0; array < kNumForwardArrays; ++array) {
      if (!device_memory_[array]) memory_[array].staged = pointer_of(args_, array);
    }
  } else {
    stage_here(is_staged, staging_bytes);
  }
  // The backend's ABI is C: it polls a plain int32_t.
  static_assert(sizeof(cancel) == sizeof(int32_t) && std::atomic<int32_t>::is_always_lock_free);
  args_.cancel = reinterpret_cast<const int32_t*>(&cancel);
}

ForwardTask::~ForwardTask() {
  if (args_.is_staged != 0) layer()->unstage();
}

uint64_t ForwardTask::input_bytes() const {
  uint64_t bytes = 0;
  for (const ForwardRequest::Copy& copy : copies_) bytes += copy.bytes;
  for (const Memory& memory : memory_)
    if (memory.staged != nullptr && !memory.writes) bytes += memory.bytes;
  return bytes;
}

void ForwardTask::take_inputs() noexcept {
  for (const ForwardRequest::Copy& copy : copies_) std::memmove(copy.to, copy.from, copy.bytes);
  for (int array = 0; array < kNumForwardArrays; ++array) {
    const Memory& memory = memory_[array];
    if (memory.staged == nullptr || memory.bytes == 0) continue;
    if (!memory.writes) {
      std::memcpy(memory.staged, memory.original, memory.bytes);
    } else if (array == kNonFinite) {
      std::memset(memory.staged, 0, memory.bytes);
    }
  }
  {
    const std::lock_guard<std::mutex> lock(inputs_mutex_);
    has_inputs_.store(true, std::memory_order_release);
  }
  inputs_are_there_.notify_one();
}

void ForwardTask::wait_for_inputs() noexcept {
  const auto are_there = [this] { return has_inputs_.load(std::memory_order_acquire); };
  const auto end = std::chrono::steady_clock::now() + kInputSpinTime;
  while (!are_there() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  std::unique_lock<std::mutex> lock(inputs_mutex_);
  inputs_are_there_.wait(lock, are_there);
}

void ForwardTask::stage_here(const std::array<bool, kNumForwardArrays>& is_staged,
                             uint64_t staging_bytes) {
  // new without () leaves the memory as it is: each part is copied into, or written by the backend.
  staging_.reset(new uint8_t[staging_bytes + kStagingAlignment]);
  const auto begin = reinterpret_cast<uintptr_t>(staging_.get());
  uint8_t* next = staging_.get() + (round_up(begin, kStagingAlignment) - begin);
  for (int array = 0; array < kNumForwardArrays; ++array) {
    if (!is_staged[array]) continue;
    memory_[array].staged = next;
    set_pointer(&args_, array, next);
    next += round_up(memory_[array].bytes, kStagingAlignment);
  }
}

void ForwardTask::copy_staged_results() const {
  for (const Memory& memory : memory_) {
    if (memory.writes && memory.staged != nullptr && memory.bytes > 0) {
      std::memcpy(memory.original, memory.staged, memory.bytes);
    }
  }
}

ForwardCall::ForwardCall(Napi::Env env, const Napi::Function& done, const ForwardRequest& request,
                         std::shared_ptr<ForwardTask> task)
    : PendingCall(env, done), task_(std::move(task)) {
  for (int array = 0; array < kNumForwardArrays; ++array) {
    const ForwardRequest::Array& from = request.arrays[array];
    if (!from.is_present || from.device_memory) continue;
    if (!from.writes && !task_->is_in_place(array)) continue;
    Lease& lease = leases_[num_leases_];
    if (napi_create_reference(env, from.value, 1, &lease.reference) != napi_ok) {
      throw Napi::Error::New(env);
    }
    lease.data = from.data;
    lease.bytes = from.bytes;
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

std::vector<double> ForwardCall::figures() const {
  const LayerTask::Times& times = task_->times();
  const auto milliseconds = [](std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) * 1e-6;
  };
  return {milliseconds(times.waited), milliseconds(times.ran), static_cast<double>(times.rows),
          times.is_first ? 1.0 : 0.0, static_cast<double>(times.fetched_bytes)};
}

Napi::Value MoeLayerWrap::forward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const auto layer = runnable(info);
    const Napi::Function done = function_argument(info[1], "done");
    const ForwardRequest request = read_forward_request(info[0], *layer);
    // Reading the request may have run the caller's code.
    check_runnable();

    Environment& environment = Environment::of(env);
    auto task = std::make_shared<ForwardTask>(request, layer, true);
    auto call = std::make_unique<ForwardCall>(env, done, request, task);
    const uint64_t id = call->id = environment.next_call_id();
    task->owner = &environment;
    task->call_id = id;
    task->completions = environment.completions();
    environment.add(std::move(call));
    const bool is_copied_first = task->input_bytes() <= kFirstBytes;
    if (is_copied_first) task->take_inputs();
    try {
      layer->executor().submit(task);
    } catch (...) {
      environment.remove(id);
      throw;
    }
    if (!is_copied_first) task->take_inputs();
    return Napi::Number::New(env, static_cast<double>(id));
  });
}

Napi::Value MoeLayerWrap::cancel(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    check_receiver(info);
    const int64_t id = integer_argument(info[0], "jobId", 0, (int64_t{1} << 53) - 1);
    Environment& environment = Environment::of(info.Env());
    auto* call = dynamic_cast<ForwardCall*>(environment.find(static_cast<uint64_t>(id)));
    const auto own = layer_ ? layer_ : released_.lock();
    if (call == nullptr || !call->uses(own.get())) {
      return Napi::String::New(info.Env(), "done");
    }
    switch (own->executor().cancel(call->task())) {
      case CancelResult::kDropped:
        environment.remove(static_cast<uint64_t>(id));
        return Napi::String::New(info.Env(), "dropped");
      case CancelResult::kStopping:
        return Napi::String::New(info.Env(), "stopping");
      case CancelResult::kDone:
        break;
    }
    return Napi::String::New(info.Env(), "done");
  });
}

Napi::Value MoeLayerWrap::forward_sync(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto layer = runnable(info);
    const ForwardRequest request = read_forward_request(info[0], *layer);
    check_runnable();
    if (request.args.select.num_tokens == 0) return Napi::Number::New(info.Env(), 0);
    const auto task = std::make_shared<ForwardTask>(request, layer, false);
    task->take_inputs();
    DeviceExecutor& executor = layer->executor();
    if (info[1].ToBoolean()) {
      // Nobody tells a thread that is in native code that it is to end: it has to look itself, and
      // so cannot be the one that computes.
      const auto is_wanted = [&] { return can_run_javascript(info.Env()); };
      executor.run_watched(task, is_wanted);
      if (!is_wanted()) return {};
    } else {
      executor.run_exclusive([&] { task->run(executor); });
    }
    throw_if_failed(task->failure());
    task->copy_staged_results();
    return Napi::Number::New(info.Env(), static_cast<double>(task->times().fetched_bytes));
  });
}

}  // namespace sparse_experts::binding
