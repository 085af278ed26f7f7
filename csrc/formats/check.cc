// Checks of encoded matrices: every length is compared with the shape before a byte is read.
#include <initializer_list>
#include <string>

#include "core/numeric.h"
#include "formats/scalars.h"
#include "formats/tiles.h"

namespace sparse_experts {

using decode_detail::stored_type_bytes;

namespace decode_detail {

uint64_t stored_type_bytes(StoredType type) {
  switch (type) {
    case StoredType::kF32:
    case StoredType::kI32:
      return 4;
    case StoredType::kF16:
    case StoredType::kBF16:
      return 2;
    case StoredType::kF8E4M3:
    case StoredType::kF8E8M0:
    case StoredType::kI8:
    case StoredType::kU8:
      return 1;
    case StoredType::kI64:
      return 8;
  }
  return 0;
}

namespace {

bool is_one_of(StoredType type, std::initializer_list<StoredType> types) {
  for (const StoredType candidate : types) {
    if (candidate == type) return true;
  }
  return false;
}

// `a * b` elements of the span's own type, exactly.
Status check_span(const char* name, const Span& span, std::initializer_list<StoredType> types,
                  int64_t a, int64_t b) {
  if (!is_one_of(span.type, types)) return Status::invalid(std::string(name) + ": wrong dtype");
  int64_t bytes = 0;
  if (!checked_multiply(a, b, &bytes) ||
      !checked_multiply(bytes, static_cast<int64_t>(stored_type_bytes(span.type)), &bytes)) {
    return Status::invalid(std::string(name) + ": the shape is too large");
  }
  if (span.bytes != static_cast<uint64_t>(bytes) || span.data == nullptr) {
    return Status::invalid(std::string(name) + " has " + std::to_string(span.bytes) +
                           " bytes, expected " + std::to_string(bytes));
  }
  return Status::ok();
}

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
  const uint64_t count = source.scale.bytes / stored_type_bytes(source.scale.type);
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

Status read_group_index(const EncodedMatrix& source, CheckedMatrix* out) {
  if (source.group_index.bytes == 0) return Status::ok();
  Status status = check_span("group index", source.group_index, {StoredType::kI32}, out->cols, 1);
  if (!status.is_ok()) return status;
  out->group_index.resize(static_cast<size_t>(out->cols));
  for (int64_t col = 0; col < out->cols; ++col) {
    const auto group = static_cast<int32_t>(load_u32(source.group_index.data + 4 * col));
    if (group < 0 || group >= out->grid_cols) {
      return Status::invalid("group index " + std::to_string(group) + " of " +
                             std::to_string(out->grid_cols));
    }
    out->group_index[static_cast<size_t>(col)] = group;
  }
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

Status check_zero_point(const EncodedMatrix& source, const CheckedMatrix& matrix) {
  if (source.codec != Codec::kPackedInt) {
    return check_span("zero point", source.zero_point, {StoredType::kI32}, matrix.grid_cols,
                      matrix.rows / 8);
  }
  if (source.zero_point.bytes == 0) return Status::ok();
  if (source.block_rows != 1) return Status::invalid("zero points need scales per row");
  return check_span("zero point", source.zero_point, {StoredType::kI32},
                    ceil_div(matrix.rows, 32 / source.bits), matrix.grid_cols);
}

Status check_scales(const EncodedMatrix& source, CheckedMatrix* out) {
  switch (source.codec) {
    case Codec::kFloat:
      return check_span(
          "scale", source.scale,
          {StoredType::kF32, StoredType::kF16, StoredType::kBF16, StoredType::kF8E8M0},
          out->grid_rows, out->grid_cols);
    case Codec::kE2M1:
      return check_span("scale", source.scale,
                        {StoredType::kF8E8M0, StoredType::kU8, StoredType::kF8E4M3}, out->grid_rows,
                        out->grid_cols);
    default:
      return check_span("scale", source.scale,
                        {StoredType::kF32, StoredType::kF16, StoredType::kBF16}, out->grid_rows,
                        out->grid_cols);
  }
}

}  // namespace

Status check_matrix(const EncodedMatrix& source, int64_t rows, int64_t cols, CheckedMatrix* out) {
  out->source = &source;
  out->rows = rows;
  out->cols = cols;
  Status status = check_data(source, rows, cols);
  if (!status.is_ok()) return status;

  const bool is_integer = source.codec != Codec::kFloat && source.codec != Codec::kE2M1;
  const bool is_input_major = source.codec == Codec::kAwq || source.codec == Codec::kGptq;
  if (source.zero_offset != 0 && !(source.codec == Codec::kGptq && source.zero_offset == 1)) {
    return Status::invalid("zero offset does not belong to this codec");
  }
  if (!is_integer) {
    status = check_absent("zero point", source.zero_point);
    if (!status.is_ok()) return status;
  }
  if (!is_integer || source.codec == Codec::kAwq) {
    status = check_absent("group index", source.group_index);
    if (!status.is_ok()) return status;
  }
  switch (source.global_scale_op) {
    case GlobalScale::kNone:
      status = check_absent("global scale", source.global_scale);
      break;
    case GlobalScale::kMultiply:
    case GlobalScale::kDivide:
      status = source.codec != Codec::kE2M1
                   ? Status::invalid("global scale does not belong to this codec")
                   : check_span("global scale", source.global_scale, {StoredType::kF32}, 1, 1);
      break;
    default:
      status = Status::invalid("unknown global scale operation");
  }
  if (!status.is_ok()) return status;

  if (source.block_rows == 0 && source.block_cols == 0 && source.codec == Codec::kFloat) {
    return check_absent("scale", source.scale);
  }
  if (source.block_rows < 1 || source.block_cols < 1) return Status::invalid("empty scale blocks");
  if (is_input_major && source.block_rows != 1) {
    return Status::invalid("scales of this codec are per output feature");
  }
  out->grid_rows = ceil_div(rows, source.block_rows);
  out->grid_cols = ceil_div(cols, source.block_cols);
  status = check_scales(source, out);
  if (!status.is_ok()) return status;
  if (is_integer) {
    status = check_zero_point(source, *out);
    if (!status.is_ok()) return status;
    status = read_group_index(source, out);
    if (!status.is_ok()) return status;
  }
  read_scales(source, out);
  return Status::ok();
}

}  // namespace decode_detail

uint64_t encoded_data_bytes(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  if (rows <= 0 || cols <= 0) return 0;
  int64_t elements = 0;
  if (!checked_multiply(rows, cols, &elements)) return 0;
  const StoredType type = source.data.type;
  switch (source.codec) {
    case Codec::kFloat: {
      const bool is_float = type == StoredType::kF32 || type == StoredType::kF16 ||
                            type == StoredType::kBF16 || type == StoredType::kF8E4M3;
      int64_t bytes = 0;
      if (!is_float ||
          !checked_multiply(elements, static_cast<int64_t>(stored_type_bytes(type)), &bytes)) {
        return 0;
      }
      return static_cast<uint64_t>(bytes);
    }
    case Codec::kE2M1:
      if ((type != StoredType::kU8 && type != StoredType::kI8) || cols % 2 != 0) return 0;
      return static_cast<uint64_t>(elements / 2);
    case Codec::kPackedInt: {
      if (type != StoredType::kI32 || (source.bits != 4 && source.bits != 8)) return 0;
      int64_t words = 0;
      int64_t bytes = 0;
      if (!checked_multiply(rows, ceil_div(cols, 32 / source.bits), &words) ||
          !checked_multiply(words, 4, &bytes)) {
        return 0;
      }
      return static_cast<uint64_t>(bytes);
    }
    case Codec::kAwq:
      if (type != StoredType::kI32 || rows % 8 != 0) return 0;
      return static_cast<uint64_t>(elements / 2);
    case Codec::kGptq:
      if (type != StoredType::kI32 || rows % 8 != 0 || cols % 8 != 0) return 0;
      return static_cast<uint64_t>(elements / 2);
  }
  return 0;
}

}  // namespace sparse_experts
