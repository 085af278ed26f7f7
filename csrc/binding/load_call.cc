#include "binding/load_call.h"

#include <vector>

#include "binding/arguments.h"
#include "binding/load_items.h"
#include "binding/moe_layer_wrap.h"

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
  call_back(env_, progress_, {Napi::Number::New(env_, static_cast<double>(task_->loaded_bytes()))});
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

Napi::Value MoeLayerWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const auto layer = live(info);
    if (!is_absent(info[2])) function_argument(info[2], "progress");
    const Napi::Function done = function_argument(info[3], "done");
    std::vector<std::string> files = parse_load_files(info[0]);
    std::vector<LoadItem> items = parse_load_items(info[1], *layer, files.size());
    // Reading the arguments may have run the caller's code: look at the state only now.
    if (!layer_) fail(ErrorCode::kDisposed, "the layer is disposed");
    if (layer->is_loading || layer->calls_in_flight > 0) fail_argument("The layer is in use");

    Environment& environment = Environment::of(env);
    auto task = std::make_unique<LoadTask>(layer, std::move(files), std::move(items));
    auto call = std::make_unique<LoadCall>(env, done, info[2], std::move(task));
    const uint64_t id = call->id = environment.next_call_id();
    LoadTask& started = call->task();
    environment.add(std::move(call));
    try {
      started.start(environment.completions(), id, !is_absent(info[2]));
    } catch (...) {
      environment.remove(id);
      throw;
    }
    return Napi::Function::New(env, [id](const Napi::CallbackInfo& cancel_info) {
      PendingCall* pending = Environment::of(cancel_info.Env()).find(id);
      if (pending != nullptr) static_cast<LoadCall*>(pending)->task().cancel();
    });
  });
}

}  // namespace sparse_experts::binding
