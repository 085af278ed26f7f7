// AVX-512 F/BW/VL/DQ: 16 lanes, blocks of 4 x 6 rows or of 12 rows x 2 vectors (24 accumulators of
// the 32 registers).
#include <immintrin.h>
#include <stddef.h>

#include "cpu/isa/isa.h"

namespace sparse_experts::cpu {
namespace {

#include "cpu/isa/avx512_vector.inc.h"

}  // namespace

const IsaKernels kAvx512Kernels = {
    "avx512",
    {matmul<DotTraits<SE_F32>>, matmul<DotTraits<SE_F16>>, matmul<DotTraits<SE_BF16>>},
    nullptr,
    32,
    {panel_matmul<PanelTraits<SE_F32>>, panel_matmul<PanelTraits<SE_F16>>,
     panel_matmul<PanelTraits<SE_BF16>>},
    nullptr,
    activate,
    axpy,
    scale,
    widen,
    narrow,
};

}  // namespace sparse_experts::cpu
