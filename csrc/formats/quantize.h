// Quantising floats in blocks of 32 columns with an f16 scale each, by the arithmetic of ggml's Q8_0
// and Q4_0, so that the results are those that its files hold.
//
//   int8: scale = max |w| / 127; code = w / scale, halves away from zero
//   int4: scale = m / -8, m the value of the largest magnitude; code = w / scale + 8, in 0 .. 15,
//         halves up
//
// Codes follow from the f32 scale; what is stored of the scale is rounded to f16. The last block
// may be shorter.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "formats/stored_matrix.h"

namespace sparse_experts {

enum class QuantizedBits : int32_t { k8 = 8, k4 = 4 };

// The format that the codes have in a matrix of `cols` columns.
SeMatrixFormat quantized_format(QuantizedBits bits, int64_t cols);

// Dense rows [num_rows, cols] of f32.
void quantize_rows(QuantizedBits bits, const float* rows, int64_t num_rows, int64_t cols,
                   CanonicalRows* out);

}  // namespace sparse_experts
