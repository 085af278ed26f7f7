// One product of activations with packed panels, everything beside them poisoned.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/isa/isa.h"
#include "cpu/layouts/matrix_panels.h"
#include "oracle/quantised.h"

namespace native_test {

struct PanelProduct {
  const sparse_experts::cpu::IsaKernels& kernels;
  const sparse_experts::cpu::MatrixPanels& layout;
  int32_t code;     // of the weights
  int32_t x_dtype;  // f32 or bf16; or kCodedRows, made of f32
  int64_t m;
  int64_t k;

  // Between two rows of the result.
  int64_t stride() const { return layout.num_panels * layout.width + 5; }
  // Of one row of x in one slab.
  int64_t slab_bytes() const;
  // x as kernels take it, everything that is no element NaN.
  std::vector<char> slabs(const std::vector<char>& x) const;
  // Of `out` with m rows, for kernel().panels; rows [m] point into slabs.
  sparse_experts::cpu::PanelTile tile(const char* const* rows, const char* matrix,
                                      float* out) const;
  const sparse_experts::cpu::MatmulKernel& kernel() const;
  // x [m, k] of x_dtype, f32 where it becomes codes; the result is [m, stride], NaN where nothing was written.
  std::vector<float> multiply(const std::vector<char>& x, const std::vector<char>& matrix) const;
};

// The panels of a quantised matrix, in pieces of `granules` panels; memory of just their size, NaN
// before they are written.
std::vector<char> packed_panels(const sparse_experts::cpu::MatrixPanels& layout,
                                const QuantisedMatrix& matrix, int64_t granules);

}  // namespace native_test
