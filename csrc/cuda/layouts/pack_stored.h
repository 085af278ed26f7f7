// Canonical rows of codes (SeMatrixRows) in the layout of stored_layout.h, on the host.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"
#include "cuda/layouts/stored_layout.h"

namespace sparse_experts::cuda {

// What the format has must be there: SE_INVALID_ARGUMENT otherwise.
Status check_stored_rows(const SeMatrixRows& rows);

// The first 16 bytes of a matrix.
void write_stored_header(const SeMatrixRows& rows, unsigned char* header);

// The unit of rows first … first + 7, counted as the arrays of `rows` are: unit_bytes, all of which are
// written. Rows behind the last one of `rows` become zero.
void pack_stored_unit(const StoredLayout& layout, const SeMatrixRows& rows, int64_t first,
                      unsigned char* unit);

}  // namespace sparse_experts::cuda
