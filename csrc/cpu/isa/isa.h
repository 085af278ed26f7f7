// The functions that exist once per instruction set, as a table of plain C function pointers.
//
// Bit rules. An element of a matmul is one vector accumulator that runs along K, and one fixed
// reduction tree: its bits depend on its two rows and on K alone, never on the block it is computed
// in. Everything else here is elementwise. Different instruction sets may give different bits.
//
// NOTE: files in this folder are compiled with flags that the machine may not have. They include no
// standard library header with inline functions or templates, and keep all code in unnamed
// namespaces: a weak copy could be linked into portable code.
#pragma once

#include <stdint.h>

#include "backend/backend.h"

namespace sparse_experts::cpu {

// out[i * out_stride + j] = dot(x row i, w row j), f32. Rows of x are x + x_rows[i] *
// x_stride_bytes (x_rows NULL: i).
struct MatmulTile {
  const char* x;
  const int32_t* x_rows;
  int64_t x_stride_bytes;
  const char* w;
  int64_t w_stride_bytes;
  int64_t m;
  int64_t n;
  int64_t k;
  float* out;
  int64_t out_stride;
};

using MatmulFunction = void (*)(const MatmulTile& tile);

struct IsaKernels {
  const char* name;
  // f32 activations; indexed by the SeDtype of the weights (SE_F32, SE_F16, SE_BF16), which are
  // widened on load.
  MatmulFunction matmul[3];
  // bf16 activations and weights, f32 accumulators; NULL where the instruction set has no such
  // product.
  MatmulFunction matmul_bf16;

  // out[i] = activation(gate[i], up[i]); gate is not read when the experts are ungated. out may be
  // gate or up.
  void (*activate)(const SeActivationSpec& spec, const float* gate, const float* up, int64_t n,
                   float* out);
  // acc[i] += weight * x[i]
  void (*axpy)(float* acc, const float* x, float weight, int64_t n);
  // out[i] = factor * x[i]
  void (*scale)(float* out, const float* x, float factor, int64_t n);
  // Exact conversion of f32, f16 or bf16 to f32.
  void (*widen)(float* out, const void* in, int32_t dtype, int64_t n);
  // Conversion to f32, f16 or bf16, to nearest, ties to even. Returns 1 when every stored value is
  // finite, else 0.
  int (*narrow)(void* out, int32_t dtype, const float* in, int64_t n);
};

extern const IsaKernels kScalarKernels;
#if defined(SPARSE_EXPERTS_X86)
extern const IsaKernels kAvx2Kernels;
extern const IsaKernels kAvx512Kernels;
extern const IsaKernels kAvx512Bf16Kernels;
#endif
#if defined(SPARSE_EXPERTS_NEON)
extern const IsaKernels kNeonKernels;
#endif

}  // namespace sparse_experts::cpu
