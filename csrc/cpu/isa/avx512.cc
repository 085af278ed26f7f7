// AVX-512 F/BW/VL/DQ: 16 lanes, blocks of 4 x 6 accumulators (24 of the 32 registers).
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx512_vector.inc.h"

}  // namespace

const IsaKernels kAvx512Kernels = {
    "avx512", {matmul<DotTraits<SE_F32>>, matmul<DotTraits<SE_F16>>, matmul<DotTraits<SE_BF16>>},
    nullptr,  activate,
    axpy,     scale,
    widen,    narrow,
};

}  // namespace sparse_experts::cpu
