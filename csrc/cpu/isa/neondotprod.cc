// NEON with SDOT: rows of codes by quantised weights.
#include <arm_neon.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/neon_vector.inc.h"

// Behind the vector class, which they name.
#include "cpu/isa/panel_matmul.inc.h"
#include "cpu/isa/quant_scales.inc.h"

// Behind both.
#include "cpu/isa/quant_decode.inc.h"

// Behind the words of codes, which it names.
#include "cpu/isa/neon_dot.inc.h"

// Sixteen accumulators leave as many registers to the weights and to x.
constexpr int kMostCodedRows = 4;

#include "cpu/isa/coded_quads.inc.h"

// Behind the products of half a tile.
#include "cpu/isa/coded_matmul.inc.h"

}  // namespace

const CodedProducts kNeonDotProdProducts = kCodedProducts;

}  // namespace sparse_experts::cpu
