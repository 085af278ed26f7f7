#include "binding/load_call.h"

#include "binding/arguments.h"

namespace sparse_experts::binding {

LoadCall::LoadCall(Napi::Env env, const Napi::Function& done, const Napi::Value& progress,
                   std::unique_ptr<LoadTask> task)
    : PendingCall(env, done), task_(std::move(task)) {
  if (!is_absent(progress) && napi_create_reference(env, progress, 1, &progress_) != napi_ok) {
    throw Napi::Error::New(env);
  }
  task_->layer()->is_loading = true;
}

LoadCall::~LoadCall() {
  if (!completed_) task_->layer()->is_loading = false;
  if (progress_ != nullptr) napi_delete_reference(env_, progress_);
}

void LoadCall::deliver_progress() {
  task_->progress_delivered();
  if (progress_ == nullptr) return;
  call_back(env_, progress_, Napi::Number::New(env_, static_cast<double>(task_->loaded_bytes())));
}

Failure LoadCall::complete() {
  task_->join();
  completed_ = true;
  task_->layer()->is_loading = false;
  task_->layer()->load_failed = !task_->failure().is_ok();
  return task_->failure();
}

void LoadCall::stop() {
  task_->cancel();
  task_->join();
}

}  // namespace sparse_experts::binding
