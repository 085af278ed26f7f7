// The functions that exist once per instruction set, as a table of plain C function pointers.
//
// Two matmuls: over rows as callers hold them (router, stages), and over packed panels (the experts
// of a layer, cpu/layouts/float_panels.h and quant_panels.h).
//
// Bit rules. An element of a matmul is the same sequence of operations wherever it is computed: its
// bits depend on its two rows and on K alone, never on the block or the batch that it is computed
// in. Everything else here is elementwise. Different instruction sets, and the two matmuls, may
// give different bits.
//
// NOTE: files in this folder are compiled with flags that the machine may not have. They include no
// standard library header with inline functions or templates, and keep all code in unnamed
// namespaces: a weak copy could be linked into portable code.
#pragma once

#include <stdint.h>

#include "abi/backend.h"

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

// Activations that meet packed panels lie in slabs of K, all rows of a slab together: element (row,
// k) at (k / kSlab * num_rows + row) * kSlab + k % kSlab. Whole rows are often a multiple of 4 KiB
// apart, and the same columns of a few of them then compete for one set of L1.
constexpr int64_t kSlab = 256;

// Rows of codes of 8 bits lie in slabs as well: one slab of one row. A code times its block's scale is
// the value. Codes lie in the order in which the words of a panel have their columns (quant_panels.h):
// of a word of n columns the quads {2i, n/2 + 2i, 2i + 1, n/2 + 2i + 1}, i rising. Behind the last
// column codes are zero.
constexpr int64_t kCodedBlock = 32;  // columns that share a scale
constexpr int64_t kSummed = 16;      // columns of a sum
struct CodedSlab {
  int8_t codes[kSlab];  // -127 to 127
  float scales[kSlab / kCodedBlock];
  int16_t sums[kSlab / kSummed];  // of codes
};
// MatmulKernel.x_dtype of rows of CodedSlab: no SeDtype.
constexpr int32_t kCodedRows = -1;

// Columns of a word of codes: what the order of rows that meet them follows.
constexpr int64_t columns_of_word(int32_t code) {
  return code == SE_CODE_I8 || code == SE_CODE_E4M3 ? 4
         : code == SE_CODE_U2 || code == SE_CODE_U3 ? 16
                                                    : 8;
}

// Columns of a chunk: what a panel of quantised weights holds together, scales first.
constexpr int64_t kChunk = 256;
// Columns of a tile: what a chunk's codes lie in.
constexpr int64_t kTile = 32;

// Where a chunk holds what, in bytes from its beginning; scales of super blocks lie there.
struct QuantChunk {
  int64_t second_supers;
  int64_t scales;
  int64_t offsets;
  int64_t codes;
};

// How the panels of a quantised matrix lie (cpu/layouts/quant_panels.h), and what its codes stand
// for.
struct QuantPanel {
  int32_t scale;       // SeScale
  int32_t offset;      // SeOffset
  int64_t flags;       // SeFormatFlag
  int64_t block_cols;  // columns that share a scale
  int64_t sum_cols;    // columns that a sum of bf16 products covers: 16, 32 or 64
  bool in_header;      // scales and offsets lie in the header, not in the chunks
  bool shares_scales;  // one scale for all rows of a panel
  int64_t header_scales;
  int64_t header_offsets;
  int64_t header_bytes;
  int64_t chunk_bytes;
  int64_t last_bytes;  // of the last chunk
  int64_t num_chunks;
  QuantChunk whole;  // of every chunk but the last
  QuantChunk last;
  bool is_affine;               // value = code - bias
  int32_t bias;                 // 0 where there is no table
  const float* values;          // [64] by code, where there is a table
  const uint16_t* bf16_values;  // [64] the same as bf16
  const int8_t* integers;       // [64] the same divided by factor
  float factor;                 // a power of two; 1 where there is no table
};

// Rows of x that a product of panels takes at most. A task's are enough to be bound by arithmetic,
// few enough that a slab of them and the tile of their results stay in L2.
constexpr int64_t kMaxTaskRows = 128;

// out[i * out_stride + j] = dot(x row i, w row j), f32, for the rows j of num_panels packed panels:
// all of a panel's columns are written. What the missing ones of a last panel get means nothing;
// it is zero where weights are floats.
struct PanelTile {
  const char* const* x_rows;  // [m] pointers to the rows in the first slab; m <= kMaxTaskRows
  int64_t x_slab_bytes;       // from there to the same row in the next slab
  const char* w;
  int64_t panel_bytes;
  int64_t num_panels;
  int64_t m;
  int64_t k;
  float* out;
  int64_t out_stride;
  const QuantPanel* quant;  // of weights that are codes; NULL for floats
};

using PanelMatmulFunction = void (*)(const PanelTile& tile);

// A product of activations with weights; f32 accumulators. Narrower weights are widened on load.
//
// Quantised weights by bf16 activations: the sum over some columns of x * value[code] is made first,
// from zero, and its product with the block's scale is added to out; then, where there are offsets,
// the sum of those columns of x times the block's offset is. Columns rise; such a sum is of one
// block, and of at most 64 columns.
//
// Quantised weights by f32 activations: each weight is decoded to f32 as SeMatrixFormat says, then
// multiplied as the same weight stored in f32 would be, with the same bits.
//
// Quantised weights by rows of codes: the products of codes are summed as integers, exactly, over 32
// columns of one block, or 16 where blocks are no multiple of 32; a zero point is taken off as an
// integer. Such a sum times the scale of the row's block is rounded to f32; its product with the
// weights' scale is added to out; then, where there are offsets, the sum of those columns of x times
// the offset is. Columns rise.
struct MatmulKernel {
  int32_t x_dtype;             // SeDtype of the activations: f32, or bf16; or kCodedRows
  int32_t code;                // SeMatrixCode of the weights
  MatmulFunction rows;         // NULL where weights are codes
  PanelMatmulFunction panels;  // over packed panels of IsaKernels.panel_width rows; NULL where the
                               // instruction set has no such product
};
constexpr int kNumQuantCodes = 7;
constexpr int kNumMatmuls = 4 + 2 * kNumQuantCodes;

// The products of rows of codes, by weights of each code but e4m3. They stand apart, because a processor
// may have instructions for them beside any instruction set.
struct CodedProducts {
  MatmulKernel matmuls[kNumQuantCodes - 1];
};

struct IsaKernels {
  const char* name;
  int64_t panel_width;  // a power of two from 8 to 64
  // Both looked up by find_matmul (cpu/isa/choose_isa.h).
  MatmulKernel matmuls[kNumMatmuls];
  const CodedProducts* coded;

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
  // n values, kSlab at most, as a slab of codes for words of word_columns columns. The scale of a
  // block is its largest magnitude / 127, a code the nearest integer to value * (127 / that
  // magnitude), ties to even; each operation rounded to f32. Magnitudes of less than 2^-119 count as
  // zero. A value that is not finite makes the scale NaN.
  void (*encode)(CodedSlab* out, const float* in, int64_t n, int64_t word_columns);
};

extern const IsaKernels kScalarKernels;
#if defined(SPARSE_EXPERTS_X86)
extern const IsaKernels kAvx2Kernels;
// The same, where the processor has AVX-VNNI.
extern const IsaKernels kAvxVnniKernels;
extern const CodedProducts kAvxVnniProducts;
extern const IsaKernels kAvx512Kernels;
// The same, where the processor has AVX-512 VNNI.
extern const IsaKernels kAvx512VnniKernels;
extern const CodedProducts kAvx512VnniProducts;
extern const IsaKernels kAvx512Bf16Kernels;
// The same, where the processor has VBMI too: with products of bf16 by quantised weights.
extern const IsaKernels kAvx512Bf16VbmiKernels;
// By code, in the order of SeMatrixCode from SE_CODE_U2 on.
void bf16_u2_matmul(const PanelTile& tile);
void bf16_u3_matmul(const PanelTile& tile);
void bf16_u4_matmul(const PanelTile& tile);
void bf16_u5_matmul(const PanelTile& tile);
void bf16_u6_matmul(const PanelTile& tile);
void bf16_i8_matmul(const PanelTile& tile);
void bf16_e4m3_matmul(const PanelTile& tile);
#endif
#if defined(SPARSE_EXPERTS_NEON)
extern const IsaKernels kNeonKernels;
// The same, where the processor has SDOT.
extern const IsaKernels kNeonDotProdKernels;
extern const CodedProducts kNeonDotProdProducts;
// The same, where the processor has SMMLA too.
extern const IsaKernels kNeonI8mmKernels;
extern const CodedProducts kNeonI8mmProducts;
#endif

}  // namespace sparse_experts::cpu
