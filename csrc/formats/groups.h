// Private to formats/*.cc: groups of columns that share a scale and a zero point.
// NOTE: never include this from cpu/isa/ (see core/dtype.h).
#pragma once

#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {

inline int64_t group_of(const CheckedMatrix& matrix, int64_t col) {
  return matrix.group_index.empty() ? col / matrix.source->block_cols
                                    : matrix.group_index[static_cast<size_t>(col)];
}

// The difference is exact; the product is the one rounding.
inline float scaled(int32_t difference, float scale) {
  return static_cast<float>(difference) * scale;
}

}  // namespace sparse_experts::decode_detail
