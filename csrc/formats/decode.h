// Decoding of stored weight matrices (F32, F16, BF16, FP8, MXFP4, NVFP4, packed integers, AWQ,
// GPTQ, ggml's blocks) into f32, f16 or bf16. Pure functions over byte spans: every length is checked against the
// shape before a byte is read, so hostile input is an error.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"
#include "formats/stored_types.h"

namespace sparse_experts {

// One raw tensor (or the slice of one that belongs to this matrix), little-endian, dense. bytes ==
// 0: absent.
struct Span {
  const uint8_t* data = nullptr;
  uint64_t bytes = 0;
  StoredType type = StoredType::kU8;
};

enum class GlobalScale : int32_t { kNone, kMultiply, kDivide };

// The matrix is [rows, cols] = [out_features, in_features] after decoding.
// Scale of element (i, j): scale[(i / block_rows) * ceil(cols / block_cols) + j / block_cols]; for
// kAwq and kGptq scales[(g(j)) * rows + i] with g(j) = group_index ? group_index[j] : j /
// block_cols.
// column_scale, where there is one, multiplies each column of what the codec gives: [cols].
//
// Each value is formed in f32 by the operations below, every one rounded to nearest even, and then
// rounded once to the output dtype; lib/checkpoint/load/decode.ts does the same and gives the same bits.
//   kFloat      element * scale
//   kE2M1       e2m1 * (scale * global_scale), or e2m1 * (scale / global_scale): the scales first
//   kPackedInt  (q - zero) * scale, zero = 2^(bits-1) where there is no zero point
//   kAwq        (q - zero) * scale, zero = 8 where there is no zero point; is_signed: q and zero are
//               two's complement, zero = 0 where there is no zero point
//   kGptq       as kPackedInt; with zero_offset, 1 per zero point is added to its 32-bit word, modulo 2^32
//               (3 bit, whose zero points cross words: to each, modulo 8)
//   kInt8       (q - zero) * scale, zero = 0 where there is no zero point
//   kGgml       as SeMatrixFormat says (abi/backend.h), with global_scale for NVFP4
//   kInt4Rows   q * scale
struct EncodedMatrix {
  Codec codec = Codec::kFloat;
  int32_t bits = 0;  // kPackedInt, kGptq: 2, 4 or 8; kGptq: 3
  bool transposed =
      false;  // kFloat: the file holds [cols, rows]; kE2M1: [cols / 2, rows]; scales alike
  bool is_signed = false;   // kAwq
  int32_t zero_offset = 0;  // kGptq: 1 = checkpoint_format "gptq" stores zeros minus one
  GlobalScale global_scale_op = GlobalScale::kNone;
  int64_t block_rows = 0;  // of the scale grid; 0 = no scale
  int64_t block_cols = 0;
  Span data, scale, zero_point, group_index, global_scale, column_scale;
};

// Decodes in f32 and rounds once to out_dtype (SeDtype: f32, f16, bf16). out_row_stride in
// elements.
Status decode_matrix(const EncodedMatrix& source, int64_t rows, int64_t cols, int32_t out_dtype,
                     void* out, int64_t out_row_stride);

// Whether `data` is, byte for byte, the rows of the matrix in this dtype.
bool is_plain(const EncodedMatrix& source, int32_t dtype);

// Bytes that `data` must have for this codec and shape; 0 when they overflow or do not fit the
// codec.
uint64_t encoded_data_bytes(const EncodedMatrix& source, int64_t rows, int64_t cols);

}  // namespace sparse_experts
