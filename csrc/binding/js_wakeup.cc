#include "binding/js_wakeup.h"

#include "binding/errors.h"

namespace sparse_experts::binding {
namespace {

struct Target {
  JsWakeup::Deliver deliver;
  void* context;
};

void call_js(napi_env env, napi_value /*function*/, void* target, void* /*data*/) {
  // Without an environment Node only empties its queue at teardown.
  if (env == nullptr) return;
  const auto* destination = static_cast<Target*>(target);
  destination->deliver(env, destination->context);
}

void delete_target(node_api_nogc_env /*env*/, void* /*data*/, void* target) {
  delete static_cast<Target*>(target);
}

}  // namespace

JsWakeup::JsWakeup(napi_env env, Deliver deliver, void* context) {
  napi_value name = nullptr;
  auto* target = new Target{deliver, context};
  if (napi_create_string_utf8(env, "sparse_experts.forward", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, delete_target,
                                      target, call_js, &function_) != napi_ok) {
    delete target;
    fail(ErrorCode::kInternal, "Node refused a thread-safe function");
  }
  napi_unref_threadsafe_function(env, function_);
}

void JsWakeup::wake() const {
  napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void JsWakeup::ref(napi_env env) const { napi_ref_threadsafe_function(env, function_); }

void JsWakeup::unref(napi_env env) const { napi_unref_threadsafe_function(env, function_); }

}  // namespace sparse_experts::binding
