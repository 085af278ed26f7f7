// Inline PTX of sm_90a: mbarriers, bulk copies, wgmma, roles of warps. Each wrapper has a host twin of
// the same name in the emulator (simt/ptx90.h), which says what it demands. Only kernels of folders
// that are compiled for 90a may call them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if defined(SIMT_EMULATOR)
#include <simt/ptx90.h>
#else
#include "cuda/common/ptx90_wgmma.cuh"
#endif

namespace sparse_experts::cuda::ptx {

#if defined(SIMT_EMULATOR)

using simt::ptx::acquire_tensor_map;
using simt::ptx::cp_async_mbarrier_arrive_noinc;
using simt::ptx::fence_mbarrier_init;
using simt::ptx::fence_proxy_async;
using simt::ptx::mbarrier_arrive;
using simt::ptx::mbarrier_arrive_expect_tx;
using simt::ptx::mbarrier_init;
using simt::ptx::mbarrier_wait;
using simt::ptx::named_barrier_sync;
using simt::ptx::set_max_registers_dec;
using simt::ptx::set_max_registers_inc;
using simt::ptx::tma_load_2d;
using simt::ptx::tma_load_4d;
using simt::ptx::wgmma_commit;
using simt::ptx::wgmma_fence;
using simt::ptx::wgmma_m64k16_bf16;
using simt::ptx::wgmma_m64k16_f16;
using simt::ptx::wgmma_wait;

#else

__device__ __forceinline__ void mbarrier_init(uint32_t barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(count) : "memory");
}

__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// try_wait suspends the thread for a while by itself; it may give up before the phase is complete. With
// SE_BOUNDED_WAITS, for programs that test, a wait that never ends becomes a trap within seconds: the
// launch fails, and the device is free for the next program.
__device__ __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity) {
#if defined(SE_BOUNDED_WAITS)
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      ".reg .pred late;\n"
      ".reg .u32 tries;\n"
      "mov.u32 tries, 0;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "add.u32 tries, tries, 1;\n"
      "setp.gt.u32 late, tries, 16777216;\n"
      "@late trap;\n"
      "bra again;\n"
      "over:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
#else
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
#endif
}

__device__ __forceinline__ void cp_async_mbarrier_arrive_noinc(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];\n" ::"r"(barrier) : "memory");
}

// Before the first bulk copy by a map that the host has written to global memory: copies read maps on
// a way of their own.
__device__ __forceinline__ void acquire_tensor_map(const void* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;\n" ::"l"(map) : "memory");
}

__device__ __forceinline__ void tma_load_2d(uint32_t shared, const void* map, uint32_t barrier,
                                            int32_t x, int32_t y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];\n" ::"r"(shared),
      "l"(map), "r"(barrier), "r"(x), "r"(y)
      : "memory");
}

__device__ __forceinline__ void tma_load_4d(uint32_t shared, const void* map, uint32_t barrier,
                                            int32_t x, int32_t y, int32_t z, int32_t w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];\n" ::"r"(shared),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}

__device__ __forceinline__ void named_barrier_sync(uint32_t id, uint32_t threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void set_max_registers_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void set_max_registers_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

#endif

}  // namespace sparse_experts::cuda::ptx
