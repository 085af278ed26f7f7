// The JavaScript side of a load of one layer or of several.
#pragma once

#include <memory>

#include "binding/environment.h"
#include "engine/loader.h"

namespace sparse_experts::binding {

class LoadCall final : public PendingCall {
 public:
  // progress may be empty.
  LoadCall(Napi::Env env, const Napi::Function& done, const Napi::Value& progress,
           std::unique_ptr<LoadTask> task);
  ~LoadCall() override;

  bool uses(const LayerState* layer) const override;
  LoadTask& task() { return *task_; }
  void deliver_progress() override;
  Failure complete() override;
  void stop() override;
  void layer_disposed() override { task_->cancel(); }

 private:
  std::unique_ptr<LoadTask> task_;
  napi_ref progress_ = nullptr;
  bool completed_ = false;
};

// (layers, progress, done), as in lib/devices/native/binding-contract.ts.
Napi::Value load_layers(const Napi::CallbackInfo& info);

}  // namespace sparse_experts::binding
