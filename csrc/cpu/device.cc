#include "cpu/device.h"

#include <algorithm>

#include "core/dtype.h"

namespace sparse_experts::cpu {

void convert_row(const IsaKernels& kernels, const void* in, int32_t in_dtype, void* out,
                 int32_t out_dtype, int64_t n) {
  if (out_dtype == SE_F32) return kernels.widen(static_cast<float*>(out), in, in_dtype, n);
  constexpr int64_t kPiece = 1024;
  float wide[kPiece];
  const char* from = static_cast<const char*>(in);
  char* to = static_cast<char*>(out);
  for (int64_t at = 0; at < n; at += kPiece) {
    const int64_t count = std::min(kPiece, n - at);
    kernels.widen(wide, from + at * dtype_bytes(in_dtype), in_dtype, count);
    kernels.narrow(to + at * dtype_bytes(out_dtype), out_dtype, wide, count);
  }
}

}  // namespace sparse_experts::cpu
