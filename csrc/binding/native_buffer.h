// NativeBuffer: the JavaScript object of a block of device memory. Stages and forwards take one
// wherever they take a typed array.
#pragma once

#include <memory>

#include "binding/errors.h"
#include "binding/napi_setup.h"
#include "engine/device_memory.h"

namespace sparse_experts::binding {

class NativeBuffer final : public Napi::ObjectWrap<NativeBuffer> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value create(Napi::Env env, std::shared_ptr<DeviceMemory> memory);

  explicit NativeBuffer(const Napi::CallbackInfo& info);
  // Runs inside the garbage collector. Calls hold the memory themselves.
  void Finalize(Napi::BasicEnv env) override;

  // The memory of a value that is a NativeBuffer of this executor, else null. Runs no JavaScript.
  // Throws DISPOSED, or INVALID_ARGUMENT when the buffer is another device's.
  static std::shared_ptr<DeviceMemory> memory_of(const Napi::Value& value, const char* name,
                                                 const DeviceExecutor& executor);

 private:
  Napi::Value upload(const Napi::CallbackInfo& info);
  Napi::Value download(const Napi::CallbackInfo& info);
  Napi::Value byte_length(const Napi::CallbackInfo& info);
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<DeviceMemory> live(const Napi::CallbackInfo& info) const;
  void check_receiver(const Napi::CallbackInfo& info) const;
  void release(Napi::BasicEnv env);

  std::shared_ptr<DeviceMemory> memory_;  // empty once disposed
  int64_t reported_bytes_ = 0;
};

}  // namespace sparse_experts::binding
