// wgmma m64nNk16 for the widths that the kernels use. The instruction names its accumulators one by one:
// macros write the lists, 32 at a time.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sparse_experts::cuda::ptx {

#define SE_NAMES_0                           \
  "%0, %1, %2, %3, %4, %5, %6, %7, "         \
  "%8, %9, %10, %11, %12, %13, %14, %15, "   \
  "%16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define SE_NAMES_1                           \
  "%32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, " \
  "%56, %57, %58, %59, %60, %61, %62, %63"
#define SE_NAMES_2                           \
  "%64, %65, %66, %67, %68, %69, %70, %71, " \
  "%72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, " \
  "%88, %89, %90, %91, %92, %93, %94, %95"
#define SE_NAMES_3                                   \
  "%96, %97, %98, %99, %100, %101, %102, %103, "     \
  "%104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, " \
  "%120, %121, %122, %123, %124, %125, %126, %127"
#define SE_NAMES_64 SE_NAMES_0
#define SE_NAMES_128 SE_NAMES_64 ", " SE_NAMES_1
#define SE_NAMES_192 SE_NAMES_128 ", " SE_NAMES_2
#define SE_NAMES_256 SE_NAMES_192 ", " SE_NAMES_3

#define SE_REGISTERS_8(first)                                                                     \
  "+f"(d[first]), "+f"(d[first + 1]), "+f"(d[first + 2]), "+f"(d[first + 3]), "+f"(d[first + 4]), \
      "+f"(d[first + 5]), "+f"(d[first + 6]), "+f"(d[first + 7])
#define SE_REGISTERS_32(first)                                                  \
  SE_REGISTERS_8(first), SE_REGISTERS_8(first + 8), SE_REGISTERS_8(first + 16), \
      SE_REGISTERS_8(first + 24)
#define SE_REGISTERS_64 SE_REGISTERS_32(0)
#define SE_REGISTERS_128 SE_REGISTERS_64, SE_REGISTERS_32(32)
#define SE_REGISTERS_192 SE_REGISTERS_128, SE_REGISTERS_32(64)
#define SE_REGISTERS_256 SE_REGISTERS_192, SE_REGISTERS_32(96)

// `left`, `right` and `scale` are the numbers of the operands behind the accumulators.
#define SE_WGMMA(columns, type, left, right, scale)                         \
  asm volatile(                                                             \
      "{\n"                                                                 \
      ".reg .pred adds;\n"                                                  \
      "setp.ne.b32 adds, %" #scale                                          \
      ", 0;\n"                                                              \
      "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type \
      " {" SE_NAMES_##columns "}, %" #left ", %" #right                     \
                              ", adds, 1, 1, 0, 0;\n"                       \
                              "}\n"                                         \
      : SE_REGISTERS_##columns                                              \
      : "l"(a), "l"(b), "r"(static_cast<uint32_t>(adds)))

template <int kColumns>
__device__ __forceinline__ void wgmma_m64k16_bf16(float (&d)[kColumns / 2], uint64_t a, uint64_t b,
                                                  bool adds) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 192 || kColumns == 256,
                "a width that is used");
  if constexpr (kColumns == 64) {
    SE_WGMMA(64, "bf16", 32, 33, 34);
  } else if constexpr (kColumns == 128) {
    SE_WGMMA(128, "bf16", 64, 65, 66);
  } else if constexpr (kColumns == 192) {
    SE_WGMMA(192, "bf16", 96, 97, 98);
  } else if constexpr (kColumns == 256) {
    SE_WGMMA(256, "bf16", 128, 129, 130);
  }
}

template <int kColumns>
__device__ __forceinline__ void wgmma_m64k16_f16(float (&d)[kColumns / 2], uint64_t a, uint64_t b,
                                                 bool adds) {
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 192 || kColumns == 256,
                "a width that is used");
  if constexpr (kColumns == 64) {
    SE_WGMMA(64, "f16", 32, 33, 34);
  } else if constexpr (kColumns == 128) {
    SE_WGMMA(128, "f16", 64, 65, 66);
  } else if constexpr (kColumns == 192) {
    SE_WGMMA(192, "f16", 96, 97, 98);
  } else if constexpr (kColumns == 256) {
    SE_WGMMA(256, "f16", 128, 129, 130);
  }
}

#undef SE_WGMMA
#undef SE_REGISTERS_256
#undef SE_REGISTERS_192
#undef SE_REGISTERS_128
#undef SE_REGISTERS_64
#undef SE_REGISTERS_32
#undef SE_REGISTERS_8
#undef SE_NAMES_256
#undef SE_NAMES_192
#undef SE_NAMES_128
#undef SE_NAMES_64
#undef SE_NAMES_3
#undef SE_NAMES_2
#undef SE_NAMES_1
#undef SE_NAMES_0

}  // namespace sparse_experts::cuda::ptx
