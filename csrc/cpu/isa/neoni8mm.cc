// NEON with SMMLA: rows of codes by quantised weights. An instruction adds the products of eight signed
// bytes of each of two rows of weights by eight of each of two rows of x: twice as many as SDOT, which
// multiplies a row of x that has no partner.
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

// Sixteen accumulators, eight vectors of weights and two of x are 26 of the 32 registers.
constexpr int kMostCodedRows = 4;

#include "cpu/isa/coded_pairs.inc.h"

// Behind the products of half a tile.
#include "cpu/isa/coded_matmul.inc.h"

}  // namespace

const CodedProducts kNeonI8mmProducts = kCodedProducts;

}  // namespace sparse_experts::cpu
