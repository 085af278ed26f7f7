// The addon's module object: see lib/devices/native/binding-contract.ts.
#include <limits>

#include "binding/arguments.h"
#include "binding/build_info.h"
#include "binding/cache_policy.h"
#include "binding/environment.h"
#include "binding/layer_arguments.h"
#include "binding/load_call.h"
#include "binding/matrix_formats.h"
#include "binding/measure_layer.h"
#include "binding/moe_layer_wrap.h"
#include "binding/native_buffer.h"
#include "binding/stages.h"
#include "engine/backend_registry.h"

#ifndef SE_VERSION
#error "SE_VERSION must be package.json's version"
#endif

namespace sparse_experts::binding {
namespace {

const char* kind_name(int32_t kind) { return kind == SE_KIND_CPU ? "cpu" : "gpu"; }

Napi::Object describe_device(Napi::Env env, const Backend& backend, int32_t index) {
  const std::string id = device_id(*backend.row, index);
  SeDeviceInfo info = {};
  SeStatus status = {};
  const int32_t code = backend.table->device_info(index, &info, &status);
  std::string unavailable = code == SE_OK ? info.unavailable : status.message;
  const Failure loss = DeviceExecutor::loss_of(id);
  if (!loss.is_ok()) unavailable = loss.message;
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", id);
  object.Set("kind", kind_name(info.kind));
  object.Set("isHost", info.is_host != 0);
  object.Set("name", info.name);
  object.Set("architecture", info.architecture);
  object.Set("unavailable", unavailable);
  object.Set("totalBytes", static_cast<double>(info.total_bytes));
  object.Set("freeBytes", static_cast<double>(info.free_bytes));
  object.Set("computeUnits", info.compute_units);
  return object;
}

Napi::Object describe_backend(Napi::Env env, const Backend& backend) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Array devices = Napi::Array::New(env);
  std::string reason = backend.reason;
  if (backend.table != nullptr) {
    SeStatus status = {};
    const int32_t count = backend.table->device_count(&status);
    for (int32_t index = 0; index < count; ++index)
      devices.Set(devices.Length(), describe_device(env, backend, index));
    if (count <= 0) reason = status.code != SE_OK ? status.message : "no device was found";
  }
  object.Set("name", backend.row->name);
  object.Set("title", backend.row->title);
  object.Set("isNumbered", backend.row->is_numbered);
  object.Set("priority", backend.row->priority);
  object.Set("reason", reason);
  object.Set("build", backend.table != nullptr ? backend.table->build : "");
  object.Set("architectures", backend.table != nullptr ? backend.table->architectures : "");
  object.Set("devices", devices);
  return object;
}

Napi::Value list_backends(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Napi::Array list = Napi::Array::New(info.Env());
    for (const Backend& backend : backends())
      list.Set(list.Length(), describe_backend(info.Env(), backend));
    return list;
  });
}

// (device)
Napi::Value counters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto executor = Environment::of(info.Env()).device(text_argument(info[0], "device"));
    SeDeviceCounters counters = {};
    executor->backend().device_counters(executor->device(), &counters);
    Napi::Object object = Napi::Object::New(info.Env());
    const auto set = [&](const char* name, uint64_t value) {
      object.Set(name, static_cast<double>(value));
    };
    set("deviceAllocations", counters.device_allocations);
    set("deviceBytes", counters.device_bytes);
    set("pinnedBytes", counters.pinned_bytes);
    set("kernelLaunches", counters.kernel_launches);
    set("graphCaptures", counters.graph_captures);
    set("graphReplays", counters.graph_replays);
    set("copiedToDeviceBytes", counters.copied_to_device_bytes);
    set("copiedToHostBytes", counters.copied_to_host_bytes);
    return object;
  });
}

// (device)
Napi::Value device_loss(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Failure loss = DeviceExecutor::loss_of(text_argument(info[0], "device"));
    return Napi::String::New(info.Env(), loss.message);
  });
}

// (device, bytes)
Napi::Value allocate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    constexpr int64_t kMaxBytes = (int64_t{1} << 53) - 1;
    const int64_t bytes = integer_argument(info[1], "bytes", 0, kMaxBytes);
    auto executor = Environment::of(info.Env()).device(text_argument(info[0], "device"));
    return NativeBuffer::create(
        info.Env(), DeviceMemory::allocate(std::move(executor), static_cast<uint64_t>(bytes)));
  });
}

Napi::Value create_layer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const LayerDescription description = parse_layer_description(info[0]);
    auto executor = Environment::of(info.Env()).device(description.device);
    return MoeLayerWrap::create(info.Env(), LayerState::create(description, std::move(executor)));
  });
}

// A layer that is not there yet, on a device: (device, config, dtype, numTokens, { batchInvariant,
// int8Activations }, held formats or null).
template <typename Body>
Napi::Value with_planned_layer(const Napi::CallbackInfo& info, Body&& body) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int32_t dtype = float_dtype_argument(info[2], "dtype");
    LayerDescription description = parse_layer_config(object_argument(info[1], "config"), dtype);
    if (!is_absent(info[5])) take_held_formats(object_argument(info[5], "held"), &description);
    const SeMoeLayer layer = layer_without_memory(description);
    const int64_t most_tokens = std::numeric_limits<int32_t>::max() / layer.routing.top_k;
    const int64_t tokens = integer_argument(info[3], "numTokens", 0, most_tokens);
    const SeLayerOptions options = parse_layer_options(object_argument(info[4], "options"));
    const auto executor = Environment::of(info.Env()).device(text_argument(info[0], "device"));
    return body(*executor, layer, options, tokens);
  });
}

Napi::Value workspace_bytes(const Napi::CallbackInfo& info) {
  return with_planned_layer(info,
                            [&](const DeviceExecutor& executor, const SeMoeLayer& layer,
                                const SeLayerOptions& options, int64_t tokens) -> Napi::Value {
                              const uint64_t bytes = executor.backend().forward_workspace_bytes(
                                  executor.device(), &layer, &options, tokens);
                              return Napi::Number::New(info.Env(), static_cast<double>(bytes));
                            });
}

Napi::Value describe_forward(const Napi::CallbackInfo& info) {
  return with_planned_layer(info,
                            [&](const DeviceExecutor& executor, const SeMoeLayer& layer,
                                const SeLayerOptions& options, int64_t tokens) -> Napi::Value {
                              return describe_kernels(info.Env(), executor, layer, options, tokens);
                            });
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  environment->layer_class = Napi::Persistent(MoeLayerWrap::define(env));
  environment->buffer_class = Napi::Persistent(NativeBuffer::define(env));
  exports.Set("version", SE_VERSION);
  exports.Set("abiVersion", SE_BACKEND_ABI_VERSION);
  exports.Set("build", build_info());
  exports.Set("backends", Napi::Function::New<list_backends>(env, "backends"));
  exports.Set("deviceLoss", Napi::Function::New<device_loss>(env, "deviceLoss"));
  exports.Set("counters", Napi::Function::New<counters>(env, "counters"));
  exports.Set("allocate", Napi::Function::New<allocate>(env, "allocate"));
  exports.Set("createLayer", Napi::Function::New<create_layer>(env, "createLayer"));
  exports.Set("measureLayer", Napi::Function::New<measure_layer>(env, "measureLayer"));
  exports.Set("loadLayers", Napi::Function::New<load_layers>(env, "loadLayers"));
  exports.Set("workspaceBytes", Napi::Function::New<workspace_bytes>(env, "workspaceBytes"));
  exports.Set("describeForward", Napi::Function::New<describe_forward>(env, "describeForward"));
  define_cache_policy(env, exports);
  define_matrix_formats(env, exports);
  define_stages(env, exports);
  return exports;
}

}  // namespace
}  // namespace sparse_experts::binding

static Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  return sparse_experts::binding::initialize(env, exports);
}

NODE_API_MODULE(NODE_GYP_MODULE_NAME, initialize_addon)
