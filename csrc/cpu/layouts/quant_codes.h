// The codes of quantised panels (quant_panels.h): how a chunk's lie, and what they stand for.
#pragma once

#include <cstdint>

namespace sparse_experts::cpu {

// By code; where codes have fewer than 6 bits, the values repeat: the bits behind a code do not
// matter.
struct CodeValues {
  float f32[64];
  uint16_t bf16[64];
};

// Of an SeValueTable and codes of `bits` bits.
const CodeValues& code_values(int32_t table, int64_t bits);

// Packs one byte per code, num_rows by cols, cols at most a chunk, into tiles of `width` rows. Row
// r begins at codes + r * stride. Columns behind the last one get code 0; rows behind num_rows are
// left as they are.
void pack_codes(int32_t code, const uint8_t* codes, int64_t stride, int64_t num_rows, int64_t cols,
                int64_t width, char* tiles);

}  // namespace sparse_experts::cpu
