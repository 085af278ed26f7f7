// The JavaScript side of a load, and the method of a layer that starts one.
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

  const LayerState* layer() const override { return task_->layer().get(); }
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

}  // namespace sparse_experts::binding
