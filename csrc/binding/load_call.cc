#include "binding/load_call.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "binding/arguments.h"
#include "binding/load_items.h"
#include "binding/moe_layer_wrap.h"

namespace sparse_experts::binding {
namespace {

LayerLoad parse_layer_load(const Napi::Object& object) {
  LayerLoad load;
  load.layer = MoeLayerWrap::layer_of(object.Get("layer"));
  load.files = parse_load_files(object.Get("files"));
  load.items = parse_load_items(object.Get("items"), *load.layer, load.files.size());
  const Napi::Value reserved = object.Get("reservedTokens");
  if (!is_absent(reserved)) {
    const int64_t most = std::numeric_limits<int32_t>::max() / load.layer->layer().routing.top_k;
    load.reserved_tokens = integer_argument(reserved, "reservedTokens", 0, most);
  }
  const Napi::Value warm = object.Get("warm");
  if (is_absent(warm)) return load;
  const ArrayView experts = array_view_any_length(warm, "warm", napi_int32_array);
  load.warm.assign(experts.as<int32_t>(), experts.as<int32_t>() + experts.length);
  return load;
}

}  // namespace

LoadCall::LoadCall(Napi::Env env, const Napi::Function& done, const Napi::Value& progress,
                   std::unique_ptr<LoadTask> task)
    : PendingCall(env, done), task_(std::move(task)) {
  if (!is_absent(progress) && napi_create_reference(env, progress, 1, &progress_) != napi_ok) {
    throw Napi::Error::New(env);
  }
  for (const LayerLoad& load : task_->layers()) load.layer->is_loading = true;
}

LoadCall::~LoadCall() {
  if (!completed_) {
    for (const LayerLoad& load : task_->layers()) load.layer->is_loading = false;
  }
  if (progress_ != nullptr) napi_delete_reference(env_, progress_);
}

bool LoadCall::uses(const LayerState* layer) const {
  const auto& layers = task_->layers();
  return std::any_of(layers.begin(), layers.end(),
                     [layer](const LayerLoad& load) { return load.layer.get() == layer; });
}

void LoadCall::deliver_progress() {
  task_->progress_delivered();
  if (progress_ == nullptr) return;
  call_back(env_, progress_,
            {Napi::Number::New(env_, static_cast<double>(task_->loaded_bytes())),
             Napi::Number::New(env_, static_cast<double>(task_->current_layer()))});
}

Failure LoadCall::complete() {
  task_->join();
  completed_ = true;
  for (const LayerLoad& load : task_->layers()) {
    load.layer->is_loading = false;
    load.layer->load_failed = !task_->failure().is_ok();
  }
  return task_->failure();
}

void LoadCall::stop() {
  task_->cancel();
  task_->join();
}

Napi::Value load_layers(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    if (!is_absent(info[1])) function_argument(info[1], "progress");
    const Napi::Function done = function_argument(info[2], "done");
    const Napi::Array list = array_argument(info[0], "layers");
    std::vector<LayerLoad> loads;
    std::vector<Napi::Value> objects;
    for (uint32_t i = 0; i < list.Length(); ++i) {
      const Napi::Object part = object_argument(list.Get(i), "layers");
      objects.push_back(part.Get("layer"));
      loads.push_back(parse_layer_load(part));
    }
    // Reading the arguments may have run the caller's code: look at the states only now.
    for (size_t i = 0; i < loads.size(); ++i) {
      const auto layer = MoeLayerWrap::layer_of(objects[i]);
      if (layer != loads[i].layer) fail_argument("The layers change while they are read");
      const auto is_same = [&layer](const LayerLoad& other) { return other.layer == layer; };
      if (layer->is_loading || layer->calls_in_flight > 0 ||
          std::count_if(loads.begin(), loads.end(), is_same) > 1)
        fail_argument("The layer is in use");
    }

    Environment& environment = Environment::of(env);
    auto task = std::make_unique<LoadTask>(std::move(loads));
    auto call = std::make_unique<LoadCall>(env, done, info[1], std::move(task));
    const uint64_t id = call->id = environment.next_call_id();
    LoadTask& started = call->task();
    environment.add(std::move(call));
    try {
      started.start(environment.completions(), id, !is_absent(info[1]));
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
