// The addon's module object: see lib/binding-contract.ts.
#include <limits>

#include "backend/registry.h"
#include "binding/build_info.h"
#include "binding/environment.h"
#include "binding/moe_layer_wrap.h"
#include "binding/stages.h"

#ifndef SE_VERSION
#error "SE_VERSION must be package.json's version"
#endif

namespace sparse_experts::binding {
namespace {

Napi::Object describe_device(Napi::Env env, const std::string& id, const SeDeviceInfo& info) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", id);
  object.Set("name", info.name);
  object.Set("architecture", info.architecture);
  object.Set("unavailable", info.unavailable);
  object.Set("totalBytes", static_cast<double>(info.total_bytes));
  object.Set("freeBytes", static_cast<double>(info.free_bytes));
  object.Set("computeUnits", info.compute_units);
  return object;
}

void list_devices(const char* backend_name, bool numbered, Napi::Array* list) {
  const BackendLookup found = find_backend(backend_name);
  if (found.backend == nullptr) return;
  SeStatus status = {};
  const int32_t count = found.backend->device_count(&status);
  for (int32_t index = 0; index < count; ++index) {
    SeDeviceInfo info = {};
    const int32_t code = found.backend->device_info(index, &info, &status);
    if (code != SE_OK) {
      std::snprintf(info.unavailable, sizeof info.unavailable, "%.250s", status.message);
    }
    const std::string id =
        std::string(backend_name) + (numbered ? ":" + std::to_string(index) : std::string());
    list->Set(list->Length(), describe_device(list->Env(), id, info));
  }
}

Napi::Value devices(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Napi::Array list = Napi::Array::New(info.Env());
    list_devices("cpu", false, &list);
    list_devices("cuda", true, &list);
    return list;
  });
}

Napi::Value cuda_reason(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), find_backend("cuda").reason);
  });
}

Napi::Value create_layer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const LayerDescription description = parse_layer_description(info[0]);
    auto executor = Environment::of(info.Env()).device(description.device);
    if (!executor->has_host_memory()) {
      fail(ErrorCode::kDeviceUnavailable, "layers run on 'cpu' only in this version");
    }
    return MoeLayerWrap::create(info.Env(), LayerState::create(description, std::move(executor)));
  });
}

// (device, config, dtype, numTokens)
Napi::Value workspace_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int32_t dtype = float_dtype_argument(info[2], "dtype");
    const LayerDescription description =
        parse_layer_config(object_argument(info[1], "config"), dtype);
    const SeMoeLayer layer = layer_without_memory(description);
    const int64_t most_tokens = std::numeric_limits<int32_t>::max() / layer.routing.top_k;
    const int64_t tokens = integer_argument(info[3], "numTokens", 0, most_tokens);
    const auto executor = Environment::of(info.Env()).device(text_argument(info[0], "device"));
    const uint64_t bytes =
        executor->backend().forward_workspace_bytes(executor->device(), &layer, tokens);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  environment->layer_class = Napi::Persistent(MoeLayerWrap::define(env));
  exports.Set("version", SE_VERSION);
  exports.Set("abiVersion", SE_BACKEND_ABI_VERSION);
  exports.Set("build", build_info());
  exports.Set("devices", Napi::Function::New<devices>(env, "devices"));
  exports.Set("cudaReason", Napi::Function::New<cuda_reason>(env, "cudaReason"));
  exports.Set("createLayer", Napi::Function::New<create_layer>(env, "createLayer"));
  exports.Set("workspaceBytes", Napi::Function::New<workspace_bytes>(env, "workspaceBytes"));
  define_stages(env, exports);
  return exports;
}

}  // namespace
}  // namespace sparse_experts::binding

static Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  return sparse_experts::binding::initialize(env, exports);
}

NODE_API_MODULE(NODE_GYP_MODULE_NAME, initialize_addon)
