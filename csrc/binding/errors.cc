#include "binding/errors.h"

namespace sparse_experts::binding {
namespace {

const char* code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case ErrorCode::kOutOfMemory:
      return "OUT_OF_MEMORY";
    case ErrorCode::kCancelled:
      return "CANCELLED";
    case ErrorCode::kDeviceUnavailable:
      return "DEVICE_UNAVAILABLE";
    case ErrorCode::kDeviceLost:
      return "DEVICE_LOST";
    case ErrorCode::kIo:
      return "IO";
    case ErrorCode::kDisposed:
      return "DISPOSED";
    case ErrorCode::kDetached:
      return "DETACHED";
    case ErrorCode::kCacheTooSmall:
      return "CACHE_TOO_SMALL";
    // No call of the addon ends with these: it opens no group of ranks.
    case ErrorCode::kPeerLost:
    case ErrorCode::kPeerTimeout:
    case ErrorCode::kNone:
    case ErrorCode::kInternal:
      break;
  }
  return "INTERNAL";
}

}  // namespace

Napi::Error make_error(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  Napi::Object object = error.Value();
  object.Set("moeCode", Napi::String::New(env, code_name(failure.code)));
  if (failure.code == ErrorCode::kOutOfMemory || failure.code == ErrorCode::kCacheTooSmall) {
    object.Set("neededBytes", Napi::Number::New(env, static_cast<double>(failure.needed_bytes)));
    object.Set("freeBytes", Napi::Number::New(env, static_cast<double>(failure.free_bytes)));
  }
  return error;
}

}  // namespace sparse_experts::binding
