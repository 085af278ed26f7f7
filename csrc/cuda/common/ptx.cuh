// The only file with inline PTX of sm_80, but for conversions (num.cuh). Each wrapper has a host twin
// of the same name in the emulator (simt/ptx.h) and a case in test/conformance. Full-warp wrappers
// (ldmatrix, mma) belong in warp-uniform control flow only.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if defined(SIMT_EMULATOR)
#include <simt/ptx.h>
#endif

namespace sparse_experts::cuda::ptx {

#if defined(SIMT_EMULATOR)

using simt::ptx::cp_async_16;
using simt::ptx::cp_async_4;
using simt::ptx::cp_async_commit;
using simt::ptx::cp_async_wait;
using simt::ptx::dependency_wait;
using simt::ptx::fma_bf16x2;
using simt::ptx::fma_f16x2;
using simt::ptx::launch_dependents;
using simt::ptx::ldmatrix_x2;
using simt::ptx::ldmatrix_x4;
using simt::ptx::load_streaming;
using simt::ptx::mma_m16n8k16_bf16;
using simt::ptx::mma_m16n8k16_f16;
using simt::ptx::smem_u32;

#else

// Address in the shared window. Never assume that it starts at 0.
__device__ __forceinline__ uint32_t smem_u32(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Copies `bytes` (0 … 16) of `source` to 16 bytes of shared memory and fills the rest with zeros.
// Both sides are 16-byte aligned; L1 is bypassed. The source is not read where bytes is 0, but must
// be a valid address.
__device__ __forceinline__ void cp_async_16(uint32_t shared, const void* source, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(source),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void cp_async_16(uint32_t shared, const void* source) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared), "l"(source) : "memory");
}

// The same for 4 bytes (`bytes` 0 … 4), both sides 4-byte aligned.
__device__ __forceinline__ void cp_async_4(uint32_t shared, const void* source, uint32_t bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared), "l"(source),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Returns when at most `kPending` of this thread's latest groups are still under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

// Returns when the kernels before on the stream have ended and their writes can be read. Below sm_90 no
// kernel starts before that.
__device__ __forceinline__ void dependency_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

// Lets the next kernel on the stream start, once all blocks have come here or ended, if it was launched
// so that it may. It says nothing about this kernel's writes.
__device__ __forceinline__ void launch_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

// Four 8x8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8, and
// gets elements (l / 4, 2 * (l % 4)) and the next of each matrix.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&out)[4], uint32_t shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared)
               : "memory");
}

// Two matrices; the addresses of lanes 0 … 15 count.
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&out)[2], uint32_t shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(shared)
               : "memory");
}

// d += a b, f32 accumulation. With g = lane / 4 and t = lane % 4:
//   a[0] (g, 2t) (g, 2t+1)   a[1] (g+8, 2t…)   a[2] (g, 2t+8…)   a[3] (g+8, 2t+8…)   a is [16, 16]
//   b[0] (2t, g) (2t+1, g)   b[1] (2t+8, g) (2t+9, g)                                b is [16, 8]
//   d[0] (g, 2t)  d[1] (g, 2t+1)  d[2] (g+8, 2t)  d[3] (g+8, 2t+1)                   d is [16, 8]
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// a b + c on the two elements of each word, rounded once to nearest even; subnormals are kept.
__device__ __forceinline__ uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;\n" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

__device__ __forceinline__ uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;\n" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// 16 bytes that are read once: not kept in L1.
__device__ __forceinline__ uint4 load_streaming(const void* source) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(source));
  return value;
}

#endif

}  // namespace sparse_experts::cuda::ptx
