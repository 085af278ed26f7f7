// Wakes an environment's JS thread from any other: Node's thread-safe function.
#pragma once

#include "binding/napi_setup.h"

namespace sparse_experts::binding {

class JsWakeup {
 public:
  using Deliver = void (*)(napi_env env, void* context);

  // JS thread. `deliver` runs on the JS thread once per wake(), with `context`. It does not keep the
  // process alive until ref().
  JsWakeup(napi_env env, Deliver deliver, void* context);
  JsWakeup(const JsWakeup&) = delete;
  JsWakeup& operator=(const JsWakeup&) = delete;

  void wake() const;               // any thread, until the environment's cleanup
  void ref(napi_env env) const;    // JS thread: the process stays alive
  void unref(napi_env env) const;  // JS thread: the process may end

 private:
  napi_threadsafe_function function_ = nullptr;
};

}  // namespace sparse_experts::binding
