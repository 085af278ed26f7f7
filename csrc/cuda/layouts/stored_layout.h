// How the GPU holds a matrix of codes: packed once, when it is loaded, in the order in which the lanes
// of a warp need it as the A operand of m16n8k16, and read from front to back.
//
//   matrix: header of 16 bytes (f32: what its scales are multiplied by), then units of 8 rows
//   unit:   chunks of 256 columns; the last one may be shorter, of whole multiples of 64
//   chunk:  codes; scales of its groups, [group][row of the unit], or [group] where the rows of every
//           unit share them; offsets, [group][row]; f16 scales of its super block, [row], and second
//           ones where there are; filled up to 16 bytes
//   codes:  of 64 columns after each other. Lane l has those of row l / 4; with t = l % 4 and of each
//           k16 step s the columns 16 s + {2t, 2t + 1, 2t + 8, 2t + 9}
//     bytes (I8, E4M3): 16 bytes to a lane, four a step, in this order
//     nibbles (U4):     8 bytes to a lane. A word has two steps, so four pairs of columns; of pair p the
//                       first code lies at bit 4 p and the second at bit 16 + 4 p: a shift and a mask
//                       leave a pair in the two halves of a word
//
// 8 rows make half of a fragment: the other half is the next unit, or the same unit of the up matrix,
// so gate and up meet in one fragment without lying together. A group is the columns that share a scale
// within a chunk: a power of two, from 16 to 256. Longer blocks are repeated in each chunk, others cut
// into groups that divide both. Scales and offsets keep their stored type. Codes of 2 and 3 bits are
// held in nibbles, integers of 5 and 6 bits as their values in bytes. Columns and rows behind the matrix
// have code 0, rows scale 0 as well.
//
// Plain C++: the host packs by the same constants as the kernels read.
#pragma once

#include <cstdint>

#include "abi/backend.h"

namespace sparse_experts::cuda {

constexpr int kUnitRows = 8;
constexpr int kChunkCols = 256;
constexpr int kHeaderBytes = 16;
constexpr int kPieceCols = 64;  // columns whose codes lie together

// How nibbles become values.
enum class NibbleValues : int32_t {
  kAffine = 0,  // the code less a bias
  kE2m1 = 1,    // floats of 4 bits
  kTable = 2    // small integers by code
};

// Where a chunk holds what, in bytes from its beginning; its codes lie there.
struct StoredChunk {
  int32_t scales;
  int32_t offsets;
  int32_t supers;
  int32_t second_supers;
  int32_t bytes;
};

struct StoredLayout {
  int32_t code;           // SE_CODE_U4, SE_CODE_I8 or SE_CODE_E4M3: how codes lie
  NibbleValues values;    // of U4
  int32_t bias;           // kAffine
  uint32_t table[4];      // kTable: 16 signed bytes
  int32_t scale;          // SeScale
  int32_t offset;         // SeOffset
  int32_t shares_scales;  // one for the rows of a unit
  int32_t group_cols;     // columns that share a scale: 16, 32, 64, 128 or 256
  int32_t num_chunks;
  int32_t last_cols;  // of the last chunk, up to a multiple of 64
  StoredChunk whole;  // every chunk but the last
  StoredChunk last;
  int32_t largest_chunk;  // bytes
  int64_t unit_bytes;
};

// Whether the kernels of a dtype multiply by matrices in a format as it is: 16-bit arithmetic, codes,
// super blocks of 256 columns. Permuted columns are expanded: nothing gathers x.
bool holds_codes(int32_t dtype, const SeMatrixFormat& format);

// Of a format that the kernels of some dtype hold.
StoredLayout stored_layout(int64_t rows, int64_t cols, const SeMatrixFormat& format);
uint64_t stored_bytes(int64_t rows, int64_t cols, const SeMatrixFormat& format);

// The code by which a format lies on the GPU: SE_CODE_U4, SE_CODE_I8, SE_CODE_E4M3; a float's own.
int32_t held_code(const SeMatrixFormat& format);

// Host. The format of a table whose matrices are codes, which is that of every entry; null where they
// are rows of floats.
const SeMatrixFormat* codes_of(const SeMatrixTable& table);
bool have_one_format(const SeMatrixTable& a, const SeMatrixTable& b);
// Whether two groups of experts can be multiplied in one launch.
bool lie_in_one_code(const SeMatrixTable& a, const SeMatrixTable& b);

}  // namespace sparse_experts::cuda
