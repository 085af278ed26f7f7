// How the CPU holds an expert's matrix: rows are packed once, when they are loaded, into panels of
// as many rows as the kernels have columns in registers. The format of a matrix (SeMatrixCode) says
// which elements:
//
//   panel p = rows [p * width, p * width + width), element (row, k) at
//     f32, f16:  (k * width + row % width)
//     bf16:      ((k / 2) * width + row % width) * 2 + k % 2
//   Missing rows of the last panel, and the missing second half of bf16's last pair, are zero.
//
// A kernel reads one panel from front to back, a full vector at a time, and adds to one accumulator
// lane per row: no horizontal sums, no remainders. bf16 lies in pairs because a pair is what the
// dot product of AVX-512 takes, and because one 32-bit load then widens to two f32 by a shift and a
// mask.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/matrix_format.h"

namespace sparse_experts::cpu {

struct PanelLayout {
  int64_t width = 0;  // rows per panel
  int64_t panel_bytes = 0;
  int64_t num_panels = 0;

  PanelLayout(int64_t panel_width, int64_t rows, int64_t cols, int32_t code)
      : width(panel_width),
        panel_bytes(panel_width *
                    code_row_bytes(code, code == SE_CODE_BF16 ? (cols + 1) / 2 * 2 : cols)),
        num_panels((rows + panel_width - 1) / panel_width) {}

  uint64_t bytes() const { return static_cast<uint64_t>(panel_bytes * num_panels); }
};

// Packs rows [first_row, first_row + num_rows) of a [rows, cols] matrix. first_row is a multiple of
// the width, and so is num_rows unless the matrix ends there. Row r of the source begins at source
// + (r - first_row) * source_stride elements.
void pack_rows(const PanelLayout& layout, int64_t cols, int32_t code, int64_t first_row,
               int64_t num_rows, const void* source, int64_t source_stride, void* matrix);

}  // namespace sparse_experts::cpu
