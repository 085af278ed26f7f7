// The way back to one environment's JS thread: other threads post the number of a call, the JS
// thread is woken to deliver it.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>

#include "binding/napi_setup.h"

namespace sparse_experts::binding {

class CompletionQueue {
 public:
  struct Event {
    enum Kind { kProgress, kDone };
    uint64_t call_id;
    Kind kind;
  };
  using Deliver = void (*)(napi_env env, void* context);

  // JS thread. `deliver` runs on the JS thread once per event, with `context`. It does not keep the
  // process alive until ref().
  CompletionQueue(napi_env env, Deliver deliver, void* context);
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  // Any thread. After close() it does nothing.
  void post(Event event);

  // JS thread only.
  bool pop(Event* event);
  void ref(napi_env env);    // the process stays alive
  void unref(napi_env env);  // the process may end
  // From here on no thread touches the environment. Call it in the environment's cleanup.
  void close();

 private:
  std::mutex mutex_;
  std::deque<Event> events_;
  bool closed_ = false;
  napi_threadsafe_function function_ = nullptr;
};

}  // namespace sparse_experts::binding
