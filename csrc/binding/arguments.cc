#include "binding/arguments.h"

#include <cmath>

#include "binding/errors.h"
#include "core/numeric.h"

namespace sparse_experts::binding {
namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

size_t element_bytes(napi_typedarray_type type) {
  switch (type) {
    case napi_int8_array:
    case napi_uint8_array:
    case napi_uint8_clamped_array:
      return 1;
    case napi_int16_array:
    case napi_uint16_array:
      return 2;
    case napi_int32_array:
    case napi_uint32_array:
    case napi_float32_array:
      return 4;
    case napi_float64_array:
    case napi_bigint64_array:
    case napi_biguint64_array:
      return 8;
    default:
      return 2;  // Float16Array, which Node-API 9 has no name for
  }
}

const char* type_name(napi_typedarray_type type) {
  switch (type) {
    case napi_uint8_array:
      return "a Uint8Array";
    case napi_uint16_array:
      return "a Uint16Array";
    case napi_int32_array:
      return "an Int32Array";
    case napi_float32_array:
      return "a Float32Array";
    default:
      return "a typed array";
  }
}

[[noreturn]] void wrong(const char* expected, const char* name, const Napi::Value& value) {
  fail_argument(std::string("Expected ") + expected + " for " + name + ", received " +
                describe(value));
}

bool is_detached(napi_env env, napi_value value) {
  napi_value buffer = nullptr;
  bool detached = false;
  if (napi_get_typedarray_info(env, value, nullptr, nullptr, nullptr, &buffer, nullptr) !=
      napi_ok) {
    return false;
  }
  return napi_is_detached_arraybuffer(env, buffer, &detached) == napi_ok && detached;
}

}  // namespace

std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number: {
      const double number = value.As<Napi::Number>().DoubleValue();
      char text[32];
      std::snprintf(text, sizeof text, "%.17g", number);
      return text;
    }
    case napi_string: {
      std::string text = value.As<Napi::String>().Utf8Value();
      if (text.size() > 40) text = text.substr(0, 40) + "…";
      return "'" + text + "'";
    }
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    case napi_symbol:
      return "a symbol";
    default:
      break;
  }
  napi_typedarray_type type;
  ArrayView view;
  if (read_typed_array(value.Env(), value, &type, &view)) {
    return std::string(type_name(type)) + " of " + std::to_string(view.length);
  }
  return value.IsArray() ? "an array" : "an object";
}

bool is_absent(const Napi::Value& value) { return value.IsNull() || value.IsUndefined(); }

Napi::Object object_argument(const Napi::Value& value, const char* name) {
  if (value.Type() != napi_object) wrong("an object", name, value);
  return value.As<Napi::Object>();
}

Napi::Array array_argument(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) wrong("an array", name, value);
  return value.As<Napi::Array>();
}

Napi::Function function_argument(const Napi::Value& value, const char* name) {
  if (!value.IsFunction()) wrong("a function", name, value);
  return value.As<Napi::Function>();
}

std::string text_argument(const Napi::Value& value, const char* name) {
  if (!value.IsString()) wrong("a string", name, value);
  return value.As<Napi::String>().Utf8Value();
}

bool boolean_argument(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) wrong("a boolean", name, value);
  return value.As<Napi::Boolean>().Value();
}

double number_argument(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) wrong("a number", name, value);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!std::isfinite(number)) wrong("a finite number", name, value);
  return number;
}

int64_t integer_argument(const Napi::Value& value, const char* name, int64_t minimum,
                         int64_t maximum) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  // The negated comparison also refuses NaN; a double beyond 2^53 would not convert exactly.
  if (!(number >= static_cast<double>(minimum) && number <= static_cast<double>(maximum) &&
        std::fabs(number) <= kMaxSafeInteger && std::trunc(number) == number)) {
    wrong(("an integer in " + std::to_string(minimum) + " … " + std::to_string(maximum)).c_str(),
          name, value);
  }
  return static_cast<int64_t>(number);
}

int32_t choice_argument(const Napi::Value& value, const char* name, const EnumName* names,
                        size_t count) {
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>().Utf8Value();
    for (size_t i = 0; i < count; ++i) {
      if (text == names[i].name) return names[i].value;
    }
  }
  std::string expected = "one of";
  for (size_t i = 0; i < count; ++i) expected += std::string(" '") + names[i].name + "'";
  wrong(expected.c_str(), name, value);
}

int32_t float_dtype_argument(const Napi::Value& value, const char* name) {
  return choice_argument(value, name, {{"f32", SE_F32}, {"f16", SE_F16}, {"bf16", SE_BF16}});
}

bool boolean_property(const Napi::Object& object, const char* name) {
  return boolean_argument(object.Get(name), name);
}

double number_property(const Napi::Object& object, const char* name) {
  return number_argument(object.Get(name), name);
}

int64_t integer_property(const Napi::Object& object, const char* name, int64_t minimum,
                         int64_t maximum) {
  return integer_argument(object.Get(name), name, minimum, maximum);
}

int32_t choice_property(const Napi::Object& object, const char* name,
                        std::initializer_list<EnumName> names) {
  return choice_argument(object.Get(name), name, names);
}

bool read_typed_array(napi_env env, napi_value value, napi_typedarray_type* type, ArrayView* view) {
  bool is_typed_array = false;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array) return false;
  size_t length = 0;
  // The pointer includes the byteOffset already.
  if (napi_get_typedarray_info(env, value, type, &length, &view->data, nullptr, nullptr) !=
      napi_ok) {
    return false;
  }
  view->length = length;
  view->bytes = length * element_bytes(*type);
  if (length == 0) view->data = nullptr;
  return true;
}

ArrayView array_view_any_length(const Napi::Value& value, const char* name,
                                napi_typedarray_type type) {
  napi_typedarray_type actual;
  ArrayView view;
  if (!read_typed_array(value.Env(), value, &actual, &view) || actual != type) {
    wrong(type_name(type), name, value);
  }
  if (view.length > 0 && view.data == nullptr) fail_argument(std::string(name) + " has no memory");
  if (reinterpret_cast<uintptr_t>(view.data) % element_bytes(type) != 0) {
    fail_argument(std::string(name) + " is misaligned");
  }
  return view;
}

ArrayView array_view(const Napi::Value& value, const char* name, napi_typedarray_type type,
                     int64_t length) {
  const ArrayView view = array_view_any_length(value, name, type);
  if (view.length != static_cast<uint64_t>(length)) {
    if (view.length == 0 && is_detached(value.Env(), value)) {
      fail(ErrorCode::kDetached, std::string(name) + " is detached");
    }
    fail_argument("Expected " + std::to_string(length) + " elements for " + name + ", received " +
                  std::to_string(view.length));
  }
  return view;
}

napi_typedarray_type float_array_type(int32_t dtype) {
  return dtype == SE_F32 ? napi_float32_array : napi_uint16_array;
}

uint64_t array_bytes(napi_typedarray_type type, int64_t length) {
  return static_cast<uint64_t>(length) * element_bytes(type);
}

int64_t multiply(int64_t a, int64_t b, const char* name) {
  int64_t product = 0;
  if (!checked_multiply(a, b, &product)) fail_argument(std::string(name) + " is too large");
  return product;
}

}  // namespace sparse_experts::binding
