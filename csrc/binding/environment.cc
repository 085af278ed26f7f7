#include "binding/environment.h"

namespace sparse_experts::binding {

void call_back(napi_env env, napi_ref callback, const std::vector<napi_value>& arguments) {
  napi_value function = nullptr;
  napi_value receiver = nullptr;
  if (napi_get_reference_value(env, callback, &function) != napi_ok || function == nullptr) return;
  napi_get_undefined(env, &receiver);
  // While a worker terminates the call fails without an exception.
  if (napi_call_function(env, receiver, function, arguments.size(), arguments.data(), nullptr) !=
      napi_pending_exception) {
    return;
  }
  bool is_pending = false;
  napi_value exception = nullptr;
  if (napi_is_exception_pending(env, &is_pending) == napi_ok && is_pending &&
      napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
    napi_fatal_exception(env, exception);
  }
}

bool can_run_javascript(napi_env env) {
  // A call that Node refuses in a thread that is terminating, and that runs no code in others.
  const Napi::HandleScope scope(env);
  napi_value undefined = nullptr;
  bool is_equal = false;
  return napi_get_undefined(env, &undefined) == napi_ok &&
         napi_strict_equals(env, undefined, undefined, &is_equal) == napi_ok;
}

PendingCall::PendingCall(Napi::Env env, const Napi::Function& done) : env_(env) {
  if (napi_create_reference(env, done, 1, &done_) != napi_ok) throw Napi::Error::New(env);
}

PendingCall::~PendingCall() {
  if (done_ != nullptr) napi_delete_reference(env_, done_);
}

Environment::Environment(Napi::Env env) : env_(env) {
  // The built-in getter, before anyone replaces it. Absent before Node 20.
  const Napi::Object global = env.Global();
  const Napi::Object prototype =
      global.Get("ArrayBuffer").As<Napi::Object>().Get("prototype").As<Napi::Object>();
  const Napi::Object object_class = global.Get("Object").As<Napi::Object>();
  const Napi::Value descriptor =
      object_class.Get("getOwnPropertyDescriptor")
          .As<Napi::Function>()
          .Call(object_class, {prototype, Napi::String::New(env, "resizable")});
  if (descriptor.IsObject()) {
    const Napi::Value getter = descriptor.As<Napi::Object>().Get("get");
    if (getter.IsFunction()) resizable_getter_ = Napi::Persistent(getter.As<Napi::Function>());
  }
  // Last, because nothing may throw once Node knows of this object. Hooks run in reverse order:
  // tear_down runs while the thread-safe function is still there.
  completions_ = std::make_shared<CompletionQueue>(
      [this] { napi_call_threadsafe_function(wakeup_, nullptr, napi_tsfn_nonblocking); });
  start_wakeup();
  napi_add_env_cleanup_hook(env, tear_down, this);
}

Environment::~Environment() = default;

void Environment::start_wakeup() {
  napi_value name = nullptr;
  if (napi_create_string_utf8(env_, "sparse_experts.forward", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                      deliver_all, &wakeup_) != napi_ok) {
    fail(ErrorCode::kInternal, "Node refused a thread-safe function");
  }
  // The process may end while no call is pending.
  napi_unref_threadsafe_function(env_, wakeup_);
}

std::shared_ptr<DeviceExecutor> Environment::device(const std::string& name) {
  const auto held = devices_.find(name);
  if (held != devices_.end()) return held->second;
  auto device = DeviceExecutor::acquire(name);
  devices_.emplace(name, device);
  return device;
}

void Environment::add(std::unique_ptr<PendingCall> call) {
  const uint64_t id = call->id;
  if (calls_.empty()) napi_ref_threadsafe_function(env_, wakeup_);
  calls_.emplace(id, std::move(call));
}

PendingCall* Environment::find(uint64_t id) {
  const auto found = calls_.find(id);
  return found == calls_.end() ? nullptr : found->second.get();
}

void Environment::remove(uint64_t id) {
  if (calls_.erase(id) > 0 && calls_.empty()) napi_unref_threadsafe_function(env_, wakeup_);
}

void Environment::layer_disposed(const LayerState* layer) {
  for (const auto& [id, call] : calls_) {
    if (call->uses(layer)) call->layer_disposed();
  }
}

void Environment::deliver_all(napi_env env, napi_value /*function*/, void* self, void* /*data*/) {
  // Without an environment Node only empties its queue at teardown.
  if (env == nullptr) return;
  auto& environment = *static_cast<Environment*>(self);
  // The device goes on as soon as they are taken. Promises run their reactions after the last one.
  for (const CompletionQueue::Event& event : environment.completions_->take()) {
    const Napi::HandleScope scope(env);
    environment.deliver(event);
  }
}

void Environment::deliver(const CompletionQueue::Event& event) {
  const auto found = calls_.find(event.call_id);
  if (found == calls_.end()) return;
  if (event.kind == CompletionQueue::Event::kProgress) {
    found->second->deliver_progress();
    return;
  }
  const std::unique_ptr<PendingCall> call = std::move(found->second);
  remove(event.call_id);
  const Failure failure = call->complete();
  std::vector<napi_value> arguments;
  try {
    arguments.push_back(failure.is_ok() ? Napi::Env(env_).Null()
                                        : make_error(env_, failure).Value());
    for (const double figure : call->figures())
      arguments.push_back(Napi::Number::New(env_, figure));
  } catch (const Napi::Error&) {
    return;  // the environment is terminating
  }
  call_back(env_, call->done_, arguments);
}

void Environment::tear_down(void* self) {
  auto& environment = *static_cast<Environment*>(self);
  for (const auto& [id, device] : environment.devices_) device->drop_all(&environment);
  for (const auto& [id, call] : environment.calls_) call->stop();
  environment.completions_->close();
  environment.calls_.clear();
  environment.layer_to_wrap.reset();
  environment.memory_to_wrap.reset();
  environment.devices_.clear();
}

bool Environment::is_resizable(const Napi::Value& typed_array) {
  if (resizable_getter_.IsEmpty()) return false;
  napi_value buffer = nullptr;
  bool is_array_buffer = false;
  size_t length = 0;
  if (napi_get_typedarray_info(env_, typed_array, nullptr, &length, nullptr, &buffer, nullptr) !=
          napi_ok ||
      length == 0 || napi_is_arraybuffer(env_, buffer, &is_array_buffer) != napi_ok) {
    return false;
  }
  // A growable SharedArrayBuffer never shrinks.
  if (!is_array_buffer) return false;
  const Napi::Value answer = resizable_getter_.Value().Call(buffer, {});
  return answer.IsBoolean() && answer.As<Napi::Boolean>().Value();
}

}  // namespace sparse_experts::binding
