#include "ops/checks.h"

#include "core/matrix_format.h"

namespace sparse_experts {
namespace {

std::string shape_text(const SeTensor& tensor) {
  std::string text = "[";
  for (int32_t i = 0; i < tensor.rank && i < SE_MAX_RANK; ++i)
    text += (i > 0 ? ", " : "") + std::to_string(tensor.shape[i]);
  return text + "]";
}

}  // namespace

Status check_tensor(const char* name, const SeTensor& tensor,
                    std::initializer_list<int64_t> shape) {
  const std::string label(name);
  const auto rank = static_cast<int32_t>(shape.size());
  SE_CHECK_ARGUMENT(tensor.rank == rank, label + ": expected rank " + std::to_string(rank) +
                                             ", received " + std::to_string(tensor.rank));
  SE_CHECK_ARGUMENT(dtype_bytes(tensor.dtype) > 0, label + ": unknown dtype");
  int32_t axis = 0;
  int64_t elements = 1;
  bool fits = true;
  for (const int64_t extent : shape) {
    SE_CHECK_ARGUMENT(is_extent(tensor.shape[axis]), label + ": bad shape " + shape_text(tensor));
    SE_CHECK_ARGUMENT(extent < 0 || tensor.shape[axis] == extent,
                      label + ": expected " + std::to_string(extent) + " in dimension " +
                          std::to_string(axis) + ", received " + shape_text(tensor));
    fits = fits && !__builtin_mul_overflow(elements, tensor.shape[axis], &elements);
    ++axis;
  }
  SE_CHECK_ARGUMENT(fits && elements <= INT64_MAX / 8, label + ": too large " + shape_text(tensor));
  if (elements == 0) return Status::ok();
  SE_CHECK_ARGUMENT(tensor.data != nullptr, label + ": no data");
  SE_CHECK_ARGUMENT(tensor.shape[rank - 1] == 1 || tensor.strides[rank - 1] == 1,
                    label + ": the last dimension must be contiguous");
  int64_t inner = tensor.shape[rank - 1];
  for (int32_t i = rank - 2; i >= 0; --i) {
    int64_t reach = 0;
    SE_CHECK_ARGUMENT(tensor.shape[i] == 1 || tensor.strides[i] >= inner,
                      label + ": stride " + std::to_string(tensor.strides[i]) + " of dimension " +
                          std::to_string(i) + " is below its " + std::to_string(inner) +
                          " elements");
    if (tensor.shape[i] == 1) continue;
    SE_CHECK_ARGUMENT(!__builtin_mul_overflow(tensor.strides[i], tensor.shape[i] - 1, &reach) &&
                          !__builtin_add_overflow(reach, inner, &inner) && inner <= INT64_MAX / 8,
                      label + ": strides reach too far");
  }
  return Status::ok();
}

Status check_float_dtype(const char* name, const SeTensor& tensor) {
  SE_CHECK_ARGUMENT(
      is_float_dtype(tensor.dtype),
      std::string(name) + ": expected f32, f16 or bf16, received " + dtype_name(tensor.dtype));
  return Status::ok();
}

Status check_code_rows(const SeMatrixRows& rows) {
  const SeMatrixFormat& format = *rows.format;
  const bool is_complete = rows.scales != nullptr &&
                           (format.offset == SE_OFFSET_NONE || rows.offsets != nullptr) &&
                           (!has_super_scales(format) || rows.super_scales != nullptr) &&
                           (format.offset != SE_OFFSET_U8 || rows.super_offsets != nullptr);
  SE_CHECK_ARGUMENT(is_complete, "matrix: its scales or offsets are missing; its format has them");
  SE_CHECK_ARGUMENT(has_whole_blocks(format, rows.cols),
                    "matrix: blocks of " + std::to_string(format.block_cols) +
                        " columns; expected a multiple of 16, or whole rows");
  return Status::ok();
}

}  // namespace sparse_experts
