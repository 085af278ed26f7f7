// Small checks that the contract's functions share.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "abi/backend.h"
#include "core/dtype.h"
#include "core/status.h"

#define SE_CHECK_ARGUMENT(condition, message)                            \
  do {                                                                   \
    if (!(condition)) return ::sparse_experts::Status::invalid(message); \
  } while (false)

namespace sparse_experts {

// Elements of one dimension or call: far above any model, low enough that products of three stay
// within 64 bits when checked.
constexpr int64_t kMaxExtent = int64_t{1} << 40;

inline bool is_extent(int64_t value) { return value >= 0 && value <= kMaxExtent; }

// `tensor` has exactly this shape (-1: any), rows of contiguous elements that do not overlap
// backwards, and data when not empty.
Status check_tensor(const char* name, const SeTensor& tensor, std::initializer_list<int64_t> shape);
Status check_float_dtype(const char* name, const SeTensor& tensor);
// Rows of codes have every array that their format has, and whole blocks of columns.
Status check_code_rows(const SeMatrixRows& rows);

}  // namespace sparse_experts
