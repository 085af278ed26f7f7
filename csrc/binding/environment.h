// What one environment (main thread, or a worker_thread) owns: the calls that have not settled, the
// way back to its JS thread, and the devices that it has opened. Instance data of the addon, so it
// ends with the environment. JS thread only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "binding/errors.h"
#include "binding/napi_setup.h"
#include "engine/completion.h"
#include "engine/device_memory.h"
#include "engine/executor.h"
#include "engine/layer.h"

namespace sparse_experts::binding {

class Environment;

// Calls back into JavaScript from the completion queue. What the callback throws becomes an
// uncaught exception of the process.
void call_back(napi_env env, napi_ref callback, const std::vector<napi_value>& arguments);

// False once the environment's thread has been told to end. On that thread.
bool can_run_javascript(napi_env env);

// A call that JavaScript waits for. It owns the JavaScript references of the call.
class PendingCall {
 public:
  PendingCall(Napi::Env env, const Napi::Function& done);
  virtual ~PendingCall();
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  virtual bool uses(const LayerState* layer) const = 0;
  virtual void deliver_progress() {}
  // The work has ended: hand over results. The failure goes to `done`.
  virtual Failure complete() = 0;
  // What `done` gets after the failure.
  virtual std::vector<double> figures() const { return {}; }
  // The environment ends: returns when no thread uses the call's memory.
  virtual void stop() = 0;
  // A layer that it uses is disposed: what has no use any more ends soon.
  virtual void layer_disposed() {}

  uint64_t id = 0;

 protected:
  friend class Environment;
  napi_env env_;
  napi_ref done_ = nullptr;
};

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  // The environment keeps its devices open until it ends.
  std::shared_ptr<DeviceExecutor> device(const std::string& name);

  // The way back to this environment's JS thread.
  const std::shared_ptr<CompletionQueue>& completions() const { return completions_; }
  uint64_t next_call_id() { return ++last_call_id_; }
  // While any call is pending the process stays alive.
  void add(std::unique_ptr<PendingCall> call);
  PendingCall* find(uint64_t id);
  void remove(uint64_t id);  // without calling `done`
  void layer_disposed(const LayerState* layer);

  // A resizable ArrayBuffer may give its pages back while another thread reads them.
  bool is_resizable(const Napi::Value& typed_array);

  // A forward's request as an array of its properties.
  Napi::FunctionReference read_request;

  Napi::FunctionReference layer_class;
  Napi::FunctionReference buffer_class;
  // Handed to the constructors of NativeLayer and NativeBuffer, which JavaScript cannot call with
  // success itself.
  std::shared_ptr<LayerState> layer_to_wrap;
  std::shared_ptr<DeviceMemory> memory_to_wrap;

 private:
  // Node's thread-safe function: from any thread to deliver_all() on the JS thread.
  void start_wakeup();
  static void deliver_all(napi_env env, napi_value function, void* self, void* data);
  void deliver(const CompletionQueue::Event& event);
  static void tear_down(void* self);

  napi_env env_;
  napi_threadsafe_function wakeup_ = nullptr;
  std::shared_ptr<CompletionQueue> completions_;
  std::map<std::string, std::shared_ptr<DeviceExecutor>> devices_;
  std::unordered_map<uint64_t, std::unique_ptr<PendingCall>> calls_;
  uint64_t last_call_id_ = 0;
  Napi::FunctionReference resizable_getter_;
};

}  // namespace sparse_experts::binding
