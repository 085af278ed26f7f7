// How the CPU holds a quantised matrix: packed once, when it is loaded, into panels of as many rows
// as the kernels have columns in registers, and read from front to back in one stream.
//
//   panel: header, chunks of 256 columns (the last one may be shorter)
//   header, in whole lines of 2 * width bytes (64 at most), empty where nothing belongs there:
//     the scale of the whole matrix, f32; then the scales, and behind them the offsets, of blocks
//     that chunks cannot hold: those of 256 columns or more, or of a number that does not divide
//     256, as [block][row]; and scales that all rows of each panel share, as [block]
//   chunk:
//     scales of its super block, [row] f16, and second ones where there are; scales of its blocks,
//     [block][row]; offsets, [block][row]; in lines up to here; then codes in tiles of 32 columns
//   tile: words of 32 bits, [word][row]. A code of b bits takes b words of a row: codes of 2, 4 and
//     8 bits as fields of words, those of 3, 5 and 6 bits with their highest 1, 1 and 2 bits as
//     fields of a plane of words before the others. A word of fields of b bits has 32 / b columns:
//     the even ones lie from bit 0 on, the odd ones from bit 16 on, so that a shift leaves a pair
//     of columns in the two halves of a word.
//
// Scales and offsets keep their stored type: a panel takes what the matrix takes in a file, but for
// lines and the last tile. Columns behind the matrix have code 0, rows behind it code 0 and scale 0.
#pragma once

#include <cstdint>

#include "abi/backend.h"
#include "core/status.h"
#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {

// Whether panels of codes can have the format. Matrices of floats have panels of their own.
bool has_quant_panels(const SeMatrixFormat& format);

// The panels of a [rows, cols] matrix in a format that has_quant_panels.
QuantPanel quant_panel(int64_t width, int64_t rows, int64_t cols, const SeMatrixFormat& format);
int64_t quant_panel_bytes(const QuantPanel& panel);

// Packs rows of a matrix. SE_INVALID_ARGUMENT where an array is missing that the format has, or a
// block of columns is not of whole multiples of 16.
Status pack_quant_rows(int64_t width, const SeMatrixRows& rows);

}  // namespace sparse_experts::cpu
