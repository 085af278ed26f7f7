// Checks of encoded matrices: every length is compared with the shape before a byte is read.
#include <string>

#include "core/numeric.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts {

namespace decode_detail {

Status check_span(const char* name, const Span& span, StoredTypes types, int64_t a, int64_t b) {
  if (!contains(types, span.type)) return Status::invalid(std::string(name) + ": wrong dtype");
  int64_t bytes = 0;
  if (!checked_multiply(a, b, &bytes) ||
      !checked_multiply(bytes, stored_type_bytes(span.type), &bytes)) {
    return Status::invalid(std::string(name) + ": the shape is too large");
  }
  if (span.bytes != static_cast<uint64_t>(bytes) || span.data == nullptr) {
    return Status::invalid(std::string(name) + " has " + std::to_string(span.bytes) +
                           " bytes, expected " + std::to_string(bytes));
  }
  return Status::ok();
}

namespace {

Status check_absent(const char* name, const Span& span) {
  if (span.bytes == 0) return Status::ok();
  return Status::invalid(std::string(name) + " does not belong to this codec");
}

float decode_element(const Span& span, int64_t index) {
  switch (span.type) {
    case StoredType::kF32:
      return bits_to_f32(load_u32(span.data + 4 * index));
    case StoredType::kF16:
      return decode_f16(load_u16(span.data + 2 * index));
    case StoredType::kBF16:
      return decode_bf16(load_u16(span.data + 2 * index));
    case StoredType::kF8E4M3:
      return decode_e4m3(span.data[index]);
    default:
      return decode_e8m0(span.data[index]);
  }
}

void read_scales(const EncodedMatrix& source, CheckedMatrix* out) {
  const uint64_t count =
      source.scale.bytes / static_cast<uint64_t>(stored_type_bytes(source.scale.type));
  out->scales.resize(count);
  for (uint64_t i = 0; i < count; ++i) {
    out->scales[i] = decode_element(source.scale, static_cast<int64_t>(i));
  }
  if (source.global_scale_op == GlobalScale::kNone) return;
  const float global = decode_element(source.global_scale, 0);
  for (float& scale : out->scales) {
    scale = source.global_scale_op == GlobalScale::kMultiply ? scale * global : scale / global;
  }
}

Status read_column_scale(const EncodedMatrix& source, CheckedMatrix* out) {
  const Span& span = source.column_scale;
  if (span.bytes == 0) return Status::ok();
  if (!codec_row(source.codec).has_column_scale) return check_absent("column scale", span);
  Status status =
      check_span("column scale", span,
                 types_of({StoredType::kF32, StoredType::kF16, StoredType::kBF16}), out->cols, 1);
  if (!status.is_ok()) return status;
  out->column_scale.resize(static_cast<size_t>(out->cols));
  for (int64_t col = 0; col < out->cols; ++col) {
    out->column_scale[static_cast<size_t>(col)] = decode_element(span, col);
  }
  return Status::ok();
}

Status read_group_index(const EncodedMatrix& source, CheckedMatrix* out) {
  if (source.group_index.bytes == 0) return Status::ok();
  Status status =
      check_span("group index", source.group_index, types_of({StoredType::kI32}), out->cols, 1);
  if (!status.is_ok()) return status;
  out->group_index.resize(static_cast<size_t>(out->cols));
  int64_t num_unset = 0;
  for (int64_t col = 0; col < out->cols; ++col) {
    const auto group = static_cast<int32_t>(load_u32(source.group_index.data + 4 * col));
    if (group == -1 && ++num_unset == col + 1) continue;
    if (group < 0 || group >= out->grid_cols) {
      return Status::invalid("group index " + std::to_string(group) + " of " +
                             std::to_string(out->grid_cols));
    }
    if (num_unset > 0) return Status::invalid("group index -1 for some columns only");
    out->group_index[static_cast<size_t>(col)] = group;
  }
  // An index that was never set: the columns are in order.
  if (num_unset > 0) out->group_index.clear();
  return Status::ok();
}

Status check_data(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  const uint64_t expected = encoded_data_bytes(source, rows, cols);
  if (expected == 0) {
    return Status::invalid("no weights of " + std::to_string(rows) + " by " + std::to_string(cols) +
                           " in this encoding");
  }
  if (source.data.bytes != expected || source.data.data == nullptr) {
    return Status::invalid("data has " + std::to_string(source.data.bytes) + " bytes, expected " +
                           std::to_string(expected));
  }
  return Status::ok();
}

}  // namespace

Status check_matrix(const EncodedMatrix& source, int64_t rows, int64_t cols, CheckedMatrix* out) {
  out->source = &source;
  out->rows = rows;
  out->cols = cols;
  Status status = check_data(source, rows, cols);
  if (!status.is_ok()) return status;

  const StoredFormat& format = *stored_format(source.codec);
  const CodecRow& row = codec_row(source.codec);
  if (source.zero_offset != 0 && !(row.has_zero_offset && source.zero_offset == 1)) {
    return Status::invalid("zero offset does not belong to this codec");
  }
  if (!row.has_zero_point) {
    status = check_absent("zero point", source.zero_point);
    if (!status.is_ok()) return status;
  }
  if (!row.has_group_index) {
    status = check_absent("group index", source.group_index);
    if (!status.is_ok()) return status;
  }
  switch (source.global_scale_op) {
    case GlobalScale::kNone:
      status = check_absent("global scale", source.global_scale);
      break;
    case GlobalScale::kMultiply:
    case GlobalScale::kDivide:
      status = row.has_global_scale ? check_span("global scale", source.global_scale,
                                                 types_of({StoredType::kF32}), 1, 1)
                                    : Status::invalid("global scale does not belong to this codec");
      break;
    default:
      status = Status::invalid("unknown global scale operation");
  }
  if (!status.is_ok()) return status;
  if (source.is_signed && !row.has_signs) {
    return Status::invalid("signed elements do not belong to this codec");
  }
  status = read_column_scale(source, out);
  if (!status.is_ok()) return status;

  if (source.block_rows == 0 && source.block_cols == 0 && row.is_scale_optional) {
    return check_absent("scale", source.scale);
  }
  if (source.block_rows < 1 || source.block_cols < 1) return Status::invalid("empty scale blocks");
  if (row.is_input_major && source.block_rows != 1) {
    return Status::invalid("scales of this codec are per output feature");
  }
  out->grid_rows = ceil_div(rows, source.block_rows);
  out->grid_cols = ceil_div(cols, source.block_cols);
  status = check_span("scale", source.scale, row.scale, out->grid_rows, out->grid_cols);
  if (!status.is_ok()) return status;
  if (row.has_zero_point) {
    status = format.check_zero_point(source, *out);
    if (!status.is_ok()) return status;
  }
  if (row.has_group_index) {
    status = read_group_index(source, out);
    if (!status.is_ok()) return status;
  }
  read_scales(source, out);
  return Status::ok();
}

}  // namespace decode_detail

uint64_t encoded_data_bytes(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  using namespace decode_detail;
  const StoredFormat* format = stored_format(source.codec);
  int64_t elements = 0;
  if (format == nullptr || rows <= 0 || cols <= 0 || !checked_multiply(rows, cols, &elements) ||
      !contains(codec_row(source.codec).data, source.data.type)) {
    return 0;
  }
  return format->data_bytes(source, rows, cols);
}

}  // namespace sparse_experts
