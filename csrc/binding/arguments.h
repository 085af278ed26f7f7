// Reading JavaScript values: every function throws INVALID_ARGUMENT with the name and the received
// value when it does not fit.
//
// NOTE: a property read may run the caller's code (getters, proxies), which may detach any buffer.
// So a call first reads all the properties that it needs, and takes pointers (`array_view`) only
// after the last of them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "abi/backend.h"
#include "abi/enum_names.h"
#include "binding/napi_setup.h"

namespace sparse_experts::binding {

// Largest count of anything that a call may name; products of two of them still fit into 64 bits.
constexpr int64_t kMaxCount = int64_t{1} << 31;

// A typed array's memory, as it was when this was taken. data may be null when length is 0.
struct ArrayView {
  void* data = nullptr;
  uint64_t length = 0;  // elements
  uint64_t bytes = 0;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

bool is_absent(const Napi::Value& value);  // null or undefined

Napi::Object object_argument(const Napi::Value& value, const char* name);
Napi::Array array_argument(const Napi::Value& value, const char* name);
Napi::Function function_argument(const Napi::Value& value, const char* name);
std::string text_argument(const Napi::Value& value, const char* name);
bool boolean_argument(const Napi::Value& value, const char* name);
double number_argument(const Napi::Value& value, const char* name);  // finite
int64_t integer_argument(const Napi::Value& value, const char* name, int64_t minimum,
                         int64_t maximum);
// The value of the name that `value` is; anything else is refused with the list of names.
int32_t choice_argument(const Napi::Value& value, const char* name, const EnumName* names,
                        size_t count);
inline int32_t choice_argument(const Napi::Value& value, const char* name,
                               std::initializer_list<EnumName> names) {
  return choice_argument(value, name, names.begin(), names.size());
}
template <size_t kSize>
int32_t choice_argument(const Napi::Value& value, const char* name,
                        const EnumName (&names)[kSize]) {
  return choice_argument(value, name, names, kSize);
}
// The index of the row whose name `value` is.
template <typename Row, size_t kSize>
int32_t row_argument(const Napi::Value& value, const char* name, const Row (&rows)[kSize]) {
  EnumName names[kSize];
  for (size_t i = 0; i < kSize; ++i) names[i] = {rows[i].name, static_cast<int32_t>(i)};
  return choice_argument(value, name, names, kSize);
}
int32_t float_dtype_argument(const Napi::Value& value, const char* name);

bool boolean_property(const Napi::Object& object, const char* name);
double number_property(const Napi::Object& object, const char* name);
int64_t integer_property(const Napi::Object& object, const char* name, int64_t minimum,
                         int64_t maximum);
int32_t choice_property(const Napi::Object& object, const char* name,
                        std::initializer_list<EnumName> names);
template <size_t kSize>
int32_t choice_property(const Napi::Object& object, const char* name,
                        const EnumName (&names)[kSize]) {
  return choice_argument(object.Get(name), name, names, kSize);
}

// `type` and the exact number of elements. A detached array fails with DETACHED.
ArrayView array_view(const Napi::Value& value, const char* name, napi_typedarray_type type,
                     int64_t length);
ArrayView array_view_any_length(const Napi::Value& value, const char* name,
                                napi_typedarray_type type);
// Float32Array for f32, Uint16Array for f16 and bf16.
napi_typedarray_type float_array_type(int32_t dtype);

// Works on SharedArrayBuffer views too. False when the value is no typed array.
bool read_typed_array(napi_env env, napi_value value, napi_typedarray_type* type, ArrayView* view);

// Bytes of an array of this type.
uint64_t array_bytes(napi_typedarray_type type, int64_t length);

int64_t multiply(int64_t a, int64_t b, const char* name);

std::string describe(const Napi::Value& value);

}  // namespace sparse_experts::binding
