#include "binding/matrix_formats.h"

#include "binding/environment.h"
#include "binding/errors.h"
#include "binding/load_items.h"
#include "core/matrix_format.h"
#include "engine/matrix_formats.h"

namespace sparse_experts::binding {
namespace {

WeightsMode weights_argument(const Napi::Value& value) {
  return static_cast<WeightsMode>(
      choice_argument(value, "weights",
                      {{"auto", static_cast<int32_t>(WeightsMode::kAuto)},
                       {"stored", static_cast<int32_t>(WeightsMode::kStored)},
                       {"expand", static_cast<int32_t>(WeightsMode::kExpand)},
                       {"int8", static_cast<int32_t>(WeightsMode::kInt8)},
                       {"int4", static_cast<int32_t>(WeightsMode::kInt4)}}));
}

Napi::Object matrix_format_object(Napi::Env env, const SeMatrixFormat& format) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("code", find_name(kMatrixCodeNames, format.code)->name);
  object.Set("table", find_name(kValueTableNames, format.table)->name);
  object.Set("scale", find_name(kScaleNames, format.scale)->name);
  object.Set("offset", find_name(kOffsetNames, format.offset)->name);
  object.Set("blockRows", static_cast<double>(format.block_rows));
  object.Set("blockCols", static_cast<double>(format.block_cols));
  object.Set("superCols", static_cast<double>(format.super_cols));
  object.Set("flags", static_cast<double>(format.flags));
  return object;
}

// (device, dtype, weights, gateUpInterleaved, items)
Napi::Value choose_formats(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const int32_t dtype = float_dtype_argument(info[1], "dtype");
    const WeightsMode mode = weights_argument(info[2]);
    const bool is_interleaved = boolean_argument(info[3], "gateUpInterleaved");
    const std::vector<StoredSource> sources = parse_stored_sources(info[4]);
    const auto executor = Environment::of(env).device(text_argument(info[0], "device"));
    std::vector<SeMatrixFormat> formats;
    Napi::Array format_of = Napi::Array::New(env, sources.size());
    Napi::Array is_stored = Napi::Array::New(env, sources.size());
    const std::vector<ChosenFormat> chosen =
        engine::choose_formats(*executor, dtype, mode, sources, is_interleaved);
    for (uint32_t i = 0; i < chosen.size(); ++i) {
      uint32_t index = 0;
      while (index < formats.size() && !is_same_format(formats[index], chosen[i].format)) ++index;
      if (index == formats.size()) formats.push_back(chosen[i].format);
      format_of.Set(i, index);
      is_stored.Set(i, Napi::Boolean::New(env, chosen[i].is_stored));
    }
    Napi::Array list = Napi::Array::New(env);
    const bool has_int8 = executor->backend().encodes_activations != nullptr;
    Napi::Array takes_int8 = Napi::Array::New(env);
    for (const SeMatrixFormat& format : formats) {
      const bool is_int8 =
          has_int8 && executor->backend().encodes_activations(executor->device(), &format) != 0;
      takes_int8.Set(list.Length(), Napi::Boolean::New(env, is_int8));
      list.Set(list.Length(), matrix_format_object(env, format));
    }
    Napi::Object result = Napi::Object::New(env);
    result.Set("formats", list);
    result.Set("takesInt8", has_int8 ? Napi::Value(takes_int8) : env.Null());
    result.Set("formatOf", format_of);
    result.Set("isStored", is_stored);
    return result;
  });
}

// (device, dtype, format, rows, cols)
Napi::Value matrix_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int32_t dtype = float_dtype_argument(info[1], "dtype");
    const SeMatrixFormat format = matrix_format_argument(info[2], "format");
    const int64_t rows = integer_argument(info[3], "rows", 0, kMaxCount);
    const int64_t cols = integer_argument(info[4], "cols", 0, kMaxCount);
    if (rows == 0 || cols == 0) return Napi::Number::New(info.Env(), 0);
    const auto executor = Environment::of(info.Env()).device(text_argument(info[0], "device"));
    const uint64_t bytes =
        executor->backend().matrix_bytes(executor->device(), rows, cols, dtype, &format);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

}  // namespace

SeMatrixFormat matrix_format_argument(const Napi::Value& value, const char* name) {
  const Napi::Object object = object_argument(value, name);
  SeMatrixFormat format = {};
  format.code = choice_property(object, "code", kMatrixCodeNames);
  format.table = choice_property(object, "table", kValueTableNames);
  format.scale = choice_property(object, "scale", kScaleNames);
  format.offset = choice_property(object, "offset", kOffsetNames);
  format.block_rows = integer_property(object, "blockRows", 0, kMaxCount);
  format.block_cols = integer_property(object, "blockCols", 0, kMaxCount);
  format.super_cols = integer_property(object, "superCols", 0, kMaxCount);
  format.flags = integer_property(object, "flags", 0, kMaxCount);
  if (!is_matrix_format(format)) fail_argument(std::string(name) + ": no such format of a matrix");
  return format;
}

void take_held_formats(const Napi::Object& description, LayerDescription* layer) {
  const Napi::Value formats_value = description.Get("formats");
  if (is_absent(formats_value)) return;
  const Napi::Array formats = array_argument(formats_value, "formats");
  for (uint32_t i = 0; i < formats.Length(); ++i)
    layer->formats.push_back(matrix_format_argument(formats.Get(i), "formats"));
  const Napi::Array matrices = array_argument(description.Get("matrices"), "matrices");
  const Napi::Array format_of = array_argument(description.Get("formatOf"), "formatOf");
  const auto last = static_cast<int64_t>(formats.Length()) - 1;
  for (uint32_t i = 0; i < matrices.Length(); ++i) {
    const Napi::Object item = object_argument(matrices.Get(i), "matrices");
    HeldMatrix held;
    held.role = matrix_role_argument(item.Get("role"));
    held.kind = matrix_kind_argument(item.Get("matrix"));
    held.expert = integer_property(item, "expert", 0, kMaxCount);
    held.format = static_cast<size_t>(integer_argument(format_of.Get(i), "formatOf", 0, last));
    layer->held.push_back(held);
  }
}

void define_matrix_formats(Napi::Env env, Napi::Object exports) {
  exports.Set("chooseFormats", Napi::Function::New<choose_formats>(env, "chooseFormats"));
  exports.Set("matrixBytes", Napi::Function::New<matrix_bytes>(env, "matrixBytes"));
}

}  // namespace sparse_experts::binding
