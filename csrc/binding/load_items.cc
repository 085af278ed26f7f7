#include "binding/load_items.h"

#include "core/dtype.h"

namespace sparse_experts::binding {
namespace {

constexpr int64_t kMaxFileOffset = (int64_t{1} << 53) - 1;

StoredType stored_type(const Napi::Value& value) {
  return static_cast<StoredType>(row_argument(value, "type", kStoredTypes));
}

LoadSegment parse_segment(const Napi::Object& item, const char* name, size_t num_files) {
  const Napi::Value value = item.Get(name);
  LoadSegment segment;
  if (is_absent(value)) return segment;
  const Napi::Object object = object_argument(value, name);
  segment.file =
      static_cast<size_t>(integer_property(object, "file", 0, static_cast<int64_t>(num_files) - 1));
  segment.offset = static_cast<uint64_t>(integer_property(object, "offset", 0, kMaxFileOffset));
  segment.bytes = static_cast<uint64_t>(integer_property(object, "bytes", 1, kMaxFileOffset));
  segment.type = stored_type(object.Get("type"));
  segment.name = text_argument(object.Get("name"), "name");
  return segment;
}

// What an item says of itself, and its sizes.
struct ParsedItem {
  LoadItem item;
  int64_t rows = 0;
  int64_t cols = 0;
  bool has_uneven_groups = false;
};

ParsedItem parse_item(const Napi::Object& object, size_t num_files) {
  ParsedItem parsed;
  LoadItem& item = parsed.item;
  item.role = matrix_role_argument(object.Get("role"));
  item.kind = matrix_kind_argument(object.Get("matrix"));
  item.expert = integer_property(object, "expert", 0, kMaxCount);
  parsed.rows = integer_property(object, "rows", 1, kMaxCount);
  parsed.cols = integer_property(object, "cols", 1, kMaxCount);
  item.encoding = parse_encoding(object_argument(object.Get("encoding"), "encoding"));
  item.data = parse_segment(object, "data", num_files);
  if (item.data.bytes == 0) fail_argument("Expected data of a matrix");
  item.scale = parse_segment(object, "scale", num_files);
  item.zero_point = parse_segment(object, "zeroPoint", num_files);
  item.group_index = parse_segment(object, "groupIndex", num_files);
  item.global_scale = parse_segment(object, "globalScale", num_files);
  item.column_scale = parse_segment(object, "columnScale", num_files);
  const Napi::Value uneven = object.Get("unevenGroups");
  if (!is_absent(uneven)) parsed.has_uneven_groups = boolean_argument(uneven, "unevenGroups");
  item.set_spans();
  return parsed;
}

}  // namespace

EncodedMatrix parse_encoding(const Napi::Object& object) {
  EncodedMatrix encoding;
  encoding.codec = static_cast<Codec>(row_argument(object.Get("codec"), "codec", kCodecs));
  if (encoding.codec == Codec::kPackedInt || encoding.codec == Codec::kGptq) encoding.bits = 4;
  const Napi::Value bits = object.Get("bits");
  if (!is_absent(bits)) encoding.bits = static_cast<int32_t>(integer_argument(bits, "bits", 2, 8));
  const Napi::Value transposed = object.Get("transposed");
  if (!is_absent(transposed)) encoding.transposed = boolean_argument(transposed, "transposed");
  const Napi::Value is_signed = object.Get("signed");
  if (!is_absent(is_signed)) encoding.is_signed = boolean_argument(is_signed, "signed");
  const Napi::Value zero_offset = object.Get("zeroOffset");
  if (!is_absent(zero_offset)) {
    encoding.zero_offset = static_cast<int32_t>(integer_argument(zero_offset, "zeroOffset", 0, 1));
  }
  const Napi::Value op = object.Get("globalScaleOp");
  if (!is_absent(op)) {
    encoding.global_scale_op = static_cast<GlobalScale>(
        choice_argument(op, "globalScaleOp",
                        {{"multiply", static_cast<int32_t>(GlobalScale::kMultiply)},
                         {"divide", static_cast<int32_t>(GlobalScale::kDivide)}}));
  }
  const Napi::Value block = object.Get("block");
  if (!is_absent(block)) {
    const Napi::Object grid = object_argument(block, "block");
    encoding.block_rows = integer_property(grid, "rows", 1, kMaxCount);
    encoding.block_cols = integer_property(grid, "cols", 1, kMaxCount);
  }
  return encoding;
}

std::array<EncodedPart, 6> read_encoded_parts(const Napi::Value& value) {
  constexpr std::array<const char*, 6> kNames = {"data",       "scale",       "zeroPoint",
                                                 "groupIndex", "globalScale", "columnScale"};
  const Napi::Object object = object_argument(value, "parts");
  std::array<EncodedPart, 6> parts;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Napi::Value part = object.Get(kNames[i]);
    if (is_absent(part)) continue;
    const Napi::Object buffer = object_argument(part, kNames[i]);
    parts[i] = {buffer.Get("bytes"), stored_type(buffer.Get("type"))};
  }
  return parts;
}

void take_encoded_parts(const std::array<EncodedPart, 6>& parts, EncodedMatrix* encoding) {
  Span* const spans[] = {&encoding->data,        &encoding->scale,        &encoding->zero_point,
                         &encoding->group_index, &encoding->global_scale, &encoding->column_scale};
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].bytes.IsEmpty()) continue;
    const ArrayView view = array_view_any_length(parts[i].bytes, "bytes", napi_uint8_array);
    *spans[i] = {view.as<const uint8_t>(), view.bytes, parts[i].type};
  }
}

MatrixRole matrix_role_argument(const Napi::Value& value) {
  return static_cast<MatrixRole>(
      choice_argument(value, "role",
                      {{"expert", static_cast<int32_t>(MatrixRole::kExpert)},
                       {"shared", static_cast<int32_t>(MatrixRole::kShared)},
                       {"latent", static_cast<int32_t>(MatrixRole::kLatent)}}));
}

MatrixKind matrix_kind_argument(const Napi::Value& value) {
  return static_cast<MatrixKind>(
      choice_argument(value, "matrix",
                      {{"gate", static_cast<int32_t>(MatrixKind::kGate)},
                       {"up", static_cast<int32_t>(MatrixKind::kUp)},
                       {"gateUp", static_cast<int32_t>(MatrixKind::kGateUp)},
                       {"down", static_cast<int32_t>(MatrixKind::kDown)}}));
}

std::vector<std::string> parse_load_files(const Napi::Value& value) {
  const Napi::Array array = array_argument(value, "files");
  std::vector<std::string> files;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    files.push_back(text_argument(array.Get(i), "files"));
    // open(2) would stop at it and read another file than the one named.
    if (files.back().find('\0') != std::string::npos) fail_argument("A path holds a NUL character");
  }
  return files;
}

std::vector<LoadItem> parse_load_items(const Napi::Value& value, const LayerState& layer,
                                       size_t num_files) {
  const Napi::Array array = array_argument(value, "items");
  std::vector<LoadItem> items;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    ParsedItem parsed = parse_item(object_argument(array.Get(i), "items"), num_files);
    LoadItem& item = parsed.item;
    const MatrixSlot slot = layer.matrix_slot(item.role, item.expert, item.kind);
    if (parsed.rows != slot.rows || parsed.cols != slot.cols) {
      fail_argument("A matrix is [" + std::to_string(parsed.rows) + ", " +
                    std::to_string(parsed.cols) + "] where the layer has [" +
                    std::to_string(slot.rows) + ", " + std::to_string(slot.cols) + "]");
    }
    items.push_back(std::move(item));
  }
  return items;
}

std::vector<StoredSource> parse_stored_sources(const Napi::Value& value) {
  // No file is read.
  constexpr size_t kAnyFile = size_t{1} << 31;
  const Napi::Array array = array_argument(value, "items");
  std::vector<StoredSource> sources;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const ParsedItem parsed = parse_item(object_argument(array.Get(i), "items"), kAnyFile);
    const LoadItem& item = parsed.item;
    sources.push_back({item.role, item.expert, item.kind, parsed.rows, parsed.cols, item.encoding,
                       parsed.has_uneven_groups});
  }
  return sources;
}

}  // namespace sparse_experts::binding
