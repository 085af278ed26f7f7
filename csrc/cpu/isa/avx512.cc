// AVX-512 F/BW/VL/DQ: 16 lanes, blocks of 4 x 6 rows or of 12 rows x 2 vectors (24 accumulators of
// the 32 registers).
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx512_vector.inc.h"

// Behind the vector class, which it names.
#include "cpu/isa/avx512_kernels.inc.h"

// Last, because it names all that stands above.
#include "cpu/isa/isa_table.inc.h"

// A constant: no code of this file runs before the set has been chosen.
constexpr IsaKernels kTable = make_table("avx512");

}  // namespace

const IsaKernels kAvx512Kernels = kTable;

}  // namespace sparse_experts::cpu
