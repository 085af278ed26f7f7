// AVX-512 with VDPBF16PS and VBMI: bf16 activations by quantised weights, whose values become bf16
// exactly, in registers.
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx512_vector.inc.h"

// Behind the vector class, which they name.
#include "cpu/isa/bf16_codes.inc.h"
#include "cpu/isa/quant_scales.inc.h"

// Behind both.
#include "cpu/isa/bf16_matmul.inc.h"

}  // namespace

void bf16_u2_matmul(const PanelTile& tile) { bf16_matmul<IndexCode<2, 0>>(tile); }
void bf16_u3_matmul(const PanelTile& tile) { bf16_matmul<IndexCode<2, 1>>(tile); }
void bf16_u4_matmul(const PanelTile& tile) { bf16_matmul<IndexCode<4, 0>>(tile); }
void bf16_u5_matmul(const PanelTile& tile) { bf16_matmul<IndexCode<4, 1>>(tile); }
void bf16_u6_matmul(const PanelTile& tile) { bf16_matmul<IndexCode<4, 2>>(tile); }
void bf16_i8_matmul(const PanelTile& tile) { bf16_matmul<I8Code>(tile); }
void bf16_e4m3_matmul(const PanelTile& tile) { bf16_matmul<E4m3Code>(tile); }

}  // namespace sparse_experts::cpu
