// NativeLayer: the JavaScript object of a layer.
#pragma once

#include <memory>

#include "binding/errors.h"
#include "binding/napi_setup.h"
#include "engine/layer.h"

namespace sparse_experts::binding {

// What a forward runs, per stage: { gate, select, dispatch, gateUp, down, combine }.
Napi::Object describe_kernels(Napi::Env env, const DeviceExecutor& executor,
                              const SeMoeLayer& layer, const SeLayerOptions& options,
                              int64_t num_tokens);

class MoeLayerWrap final : public Napi::ObjectWrap<MoeLayerWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  // A new object around `layer`.
  static Napi::Value create(Napi::Env env, std::shared_ptr<LayerState> layer);

  // The layer of a NativeLayer, or DISPOSED. Refuses any other value.
  static std::shared_ptr<LayerState> layer_of(const Napi::Value& value);

  explicit MoeLayerWrap(const Napi::CallbackInfo& info);
  // Runs inside the garbage collector. Tasks hold the layer themselves, so nothing is waited for.
  void Finalize(Napi::BasicEnv env) override;

 private:
  // A matrix that is to be written.
  struct MatrixPlace {
    MatrixRole role;
    int64_t expert;
    MatrixKind kind;
    MatrixSlot slot;
  };

  Napi::Value set_matrix(const Napi::CallbackInfo& info);
  Napi::Value set_encoded(const Napi::CallbackInfo& info);
  // forward_call.cc
  Napi::Value forward(const Napi::CallbackInfo& info);
  Napi::Value cancel(const Napi::CallbackInfo& info);
  Napi::Value forward_sync(const Napi::CallbackInfo& info);

  Napi::Value workspace_bytes(const Napi::CallbackInfo& info);
  Napi::Value describe_forward(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
  Napi::Value cache(const Napi::CallbackInfo& info);
  Napi::Value phases(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  // The layer, or DISPOSED. Refuses any other `this`.
  std::shared_ptr<LayerState> live(const Napi::CallbackInfo& info) const;
  std::shared_ptr<LayerState> runnable(const Napi::CallbackInfo& info) const;
  void check_runnable() const;
  void check_writable() const;
  MatrixPlace place_argument(const Napi::CallbackInfo& info) const;
  int64_t num_tokens_argument(const Napi::CallbackInfo& info, const LayerState& layer) const;
  void check_receiver(const Napi::CallbackInfo& info) const;
  void release(Napi::BasicEnv env);

  std::shared_ptr<LayerState> layer_;  // empty once disposed
  std::weak_ptr<LayerState> released_;
  int64_t reported_bytes_ = 0;
};

}  // namespace sparse_experts::binding
