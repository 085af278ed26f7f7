// The panels of a matrix in any format that the backend holds.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"
#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {

// Whether a layer of `dtype` computes with matrices in a format in place. `bf16_product`: the
// instruction set multiplies bf16 by bf16.
bool holds_format(int32_t dtype, const SeMatrixFormat& format, bool bf16_product);

struct MatrixPanels {
  int64_t width = 0;  // rows per panel
  int64_t panel_bytes = 0;
  int64_t num_panels = 0;
  bool is_quantised = false;
  QuantPanel quant = {};
  int64_t permutation_bytes = 0;  // of int32[cols] behind the panels, where columns are permuted

  MatrixPanels(int64_t panel_width, int64_t rows, int64_t cols, const SeMatrixFormat& format);

  uint64_t bytes() const {
    return static_cast<uint64_t>(panel_bytes * num_panels + permutation_bytes);
  }
  // [cols]: stored column c is column permutation[c] of the activations; NULL: c.
  const int32_t* permutation(const void* matrix) const;
};

// Packs rows as SeBackend.matrix_write has them. SE_INVALID_ARGUMENT where the format has an array
// that is missing, or a permutation that leaves the row.
Status pack_matrix_rows(int64_t width, const SeMatrixRows& rows);

}  // namespace sparse_experts::cpu
