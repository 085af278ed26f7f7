#include "binding/native_buffer.h"

#include "binding/arguments.h"
#include "binding/environment.h"

namespace sparse_experts::binding {
namespace {

constexpr napi_type_tag kBufferTag = {0x7c05b9e2416d4f3a, 0xb83e92d7f6a1405c};

bool has_tag(napi_env env, napi_value value) {
  bool is_buffer = false;
  return napi_check_object_type_tag(env, value, &kBufferTag, &is_buffer) == napi_ok && is_buffer;
}

// A typed array of exactly this size; of any element type, since the buffer has none.
ArrayView whole_array(const Napi::Value& value, uint64_t bytes) {
  napi_typedarray_type type;
  ArrayView view;
  if (!read_typed_array(value.Env(), value, &type, &view)) {
    fail_argument("Expected a typed array for data, received " + describe(value));
  }
  if (view.bytes != bytes) {
    fail_argument("Expected " + std::to_string(bytes) + " bytes for data, received " +
                  std::to_string(view.bytes));
  }
  return view;
}

}  // namespace

Napi::Function NativeBuffer::define(Napi::Env env) {
  return DefineClass(env, "NativeBuffer",
                     {InstanceMethod<&NativeBuffer::upload>("upload"),
                      InstanceMethod<&NativeBuffer::download>("download"),
                      InstanceAccessor<&NativeBuffer::byte_length>("byteLength"),
                      InstanceAccessor<&NativeBuffer::device>("device"),
                      InstanceMethod<&NativeBuffer::dispose>("dispose")});
}

Napi::Value NativeBuffer::create(Napi::Env env, std::shared_ptr<DeviceMemory> memory) {
  Environment& environment = Environment::of(env);
  environment.memory_to_wrap = std::move(memory);
  const Napi::Value object = environment.buffer_class.New({});
  environment.memory_to_wrap.reset();
  return object;
}

NativeBuffer::NativeBuffer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeBuffer>(info) {
  guarded(info.Env(), [&] {
    memory_ = std::move(Environment::of(info.Env()).memory_to_wrap);
    if (!memory_) fail_argument("A NativeBuffer is made by allocate only");
    if (napi_type_tag_object(info.Env(), info.This(), &kBufferTag) != napi_ok) {
      fail(ErrorCode::kInternal, "Node refused a type tag");
    }
    // Device memory too: else a program that forgets its tensors would run out of it long before
    // the garbage collector sees a reason to look for them.
    reported_bytes_ = static_cast<int64_t>(memory_->bytes());
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), reported_bytes_);
  });
}

void NativeBuffer::Finalize(Napi::BasicEnv env) { release(env); }

void NativeBuffer::release(Napi::BasicEnv env) {
  if (reported_bytes_ != 0) {
    int64_t adjusted = 0;
    napi_adjust_external_memory(env, -reported_bytes_, &adjusted);
    reported_bytes_ = 0;
  }
  memory_.reset();
}

void NativeBuffer::check_receiver(const Napi::CallbackInfo& info) const {
  if (!has_tag(info.Env(), info.This())) {
    fail_argument("A method of NativeBuffer was called on another object");
  }
}

std::shared_ptr<DeviceMemory> NativeBuffer::live(const Napi::CallbackInfo& info) const {
  check_receiver(info);
  if (!memory_) fail(ErrorCode::kDisposed, "the tensor is disposed");
  return memory_;
}

std::shared_ptr<DeviceMemory> NativeBuffer::memory_of(const Napi::Value& value, const char* name,
                                                      const DeviceExecutor& executor) {
  if (value.Type() != napi_object || value.IsTypedArray() || !has_tag(value.Env(), value))
    return nullptr;
  const auto& memory = Unwrap(value.As<Napi::Object>())->memory_;
  if (!memory) fail(ErrorCode::kDisposed, std::string(name) + " is disposed");
  if (&memory->executor() != &executor) {
    fail_argument(std::string(name) + " lies on '" + memory->executor().device_id() +
                  "', the call runs on '" + executor.device_id() + "'");
  }
  return memory;
}

Napi::Value NativeBuffer::upload(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto memory = live(info);
    const ArrayView view = whole_array(info[0], memory->bytes());
    copy_to_device(memory->executor(), memory->data(), view.data, view.bytes);
    return info.Env().Undefined();
  });
}

Napi::Value NativeBuffer::download(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto memory = live(info);
    const ArrayView view = whole_array(info[0], memory->bytes());
    copy_to_host(memory->executor(), view.data, memory->data(), view.bytes);
    return info.Env().Undefined();
  });
}

Napi::Value NativeBuffer::byte_length(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    check_receiver(info);
    const double bytes = memory_ ? static_cast<double>(memory_->bytes()) : 0;
    return Napi::Number::New(info.Env(), bytes);
  });
}

Napi::Value NativeBuffer::device(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), live(info)->executor().device_id());
  });
}

Napi::Value NativeBuffer::dispose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    check_receiver(info);
    release(info.Env());
    return info.Env().Undefined();
  });
}

}  // namespace sparse_experts::binding
