// Host twins of thin PTX wrappers (sm_90a): mbarriers, bulk copies, wgmma, stmatrix, proxy fences,
// roles of warps. Shared addresses as in simt/ptx.h. What each demands of its caller is checked; a
// breach is a defect (kProtocol where it is none of the other kinds).
//   - a bulk copy's destination holds 0xFF from the issue until a thread waits for its mbarrier
//   - the accumulators of a wgmma hold NaN from the issue until the wait that covers its group
#pragma once

#include <cstdint>

#include "simt/types.h"

namespace simt::detail {

void mbarrier_init(uint32_t address, uint32_t count, const char* file, int line);
void mbarrier_invalidate(uint32_t address, const char* file, int line);
void mbarrier_publish();
void mbarrier_arrive(uint32_t address, uint32_t expected_bytes, bool arrives, const char* operation,
                     const char* file, int line);
void mbarrier_arrive_after_copies(uint32_t address, const char* file, int line);
void mbarrier_wait(uint32_t address, uint32_t parity, const char* file, int line);
void fence_proxy_async();

void bulk_load_box(uint32_t shared, const void* map, uint32_t barrier, const int32_t* coordinates,
                   uint32_t rank, const char* file, int line);
void bulk_load(uint32_t shared, const void* source, uint32_t bytes, uint32_t barrier,
               const char* file, int line);
void bulk_store(void* target, uint32_t shared, uint32_t bytes, const char* file, int line);
void bulk_commit();
void bulk_wait(uint32_t pending);
void bulk_prefetch(const void* source, uint32_t bytes, const char* file, int line);

void store_matrix(const uint32_t* in, int matrices, bool transpose, uint32_t shared,
                  const char* file, int line);

struct WgmmaShape {
  bool is_bf16;
  uint32_t columns;
};
void wgmma_fence(const char* file, int line);
void wgmma(WgmmaShape shape, float* d, uint64_t a, uint64_t b, bool adds, const char* file,
           int line);
void wgmma_commit(const char* file, int line);
void wgmma_wait(uint32_t pending, const char* file, int line);

void named_barrier(uint32_t id, uint32_t threads, bool waits, const char* file, int line);
void set_max_registers(uint32_t registers, bool raises, const char* file, int line);
bool elect(unsigned mask, const char* file, int line);

}  // namespace simt::detail

namespace simt::ptx {

#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// --- mbarrier ------------------------------------------------------------------------------------

inline void mbarrier_init(uint32_t barrier, uint32_t count, SIMT_SITE) {
  detail::mbarrier_init(barrier, count, file, line);
}
inline void mbarrier_inval(uint32_t barrier, SIMT_SITE) {
  detail::mbarrier_invalidate(barrier, file, line);
}
// After the inits, by their thread: bulk copies may name the barriers.
inline void fence_mbarrier_init() { detail::mbarrier_publish(); }
inline void mbarrier_arrive(uint32_t barrier, SIMT_SITE) {
  detail::mbarrier_arrive(barrier, 0, true, "mbarrier.arrive", file, line);
}
inline void mbarrier_expect_tx(uint32_t barrier, uint32_t bytes, SIMT_SITE) {
  detail::mbarrier_arrive(barrier, bytes, false, "mbarrier.expect_tx", file, line);
}
inline void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes, SIMT_SITE) {
  detail::mbarrier_arrive(barrier, bytes, true, "mbarrier.arrive.expect_tx", file, line);
}
// Returns when the phase of that parity is complete. A fresh barrier is in phase 0, and counts as one
// whose phase of parity 1 is over.
inline void mbarrier_wait(uint32_t barrier, uint32_t parity, SIMT_SITE) {
  detail::mbarrier_wait(barrier, parity, file, line);
}
// An arrival when all cp.async of this thread so far have landed; the barrier's count includes it.
inline void cp_async_mbarrier_arrive_noinc(uint32_t barrier, SIMT_SITE) {
  detail::mbarrier_arrive_after_copies(barrier, file, line);
}

// --- bulk copies ---------------------------------------------------------------------------------

// Before the first copy by a map that the host has written to global memory. Maps are ordinary memory
// here: nothing to wait for.
inline void acquire_tensor_map(const void* /*map*/) {}
// The box of a tensor at these coordinates (in elements, dimension 0 first) to shared memory; what
// lies outside of the tensor is zero. One thread calls it. All bytes of the box count.
inline void tma_load_2d(uint32_t shared, const void* map, uint32_t barrier, int32_t x, int32_t y,
                        SIMT_SITE) {
  const int32_t coordinates[] = {x, y};
  detail::bulk_load_box(shared, map, barrier, coordinates, 2, file, line);
}
inline void tma_load_3d(uint32_t shared, const void* map, uint32_t barrier, int32_t x, int32_t y,
                        int32_t z, SIMT_SITE) {
  const int32_t coordinates[] = {x, y, z};
  detail::bulk_load_box(shared, map, barrier, coordinates, 3, file, line);
}
inline void tma_load_4d(uint32_t shared, const void* map, uint32_t barrier, int32_t x, int32_t y,
                        int32_t z, int32_t w, SIMT_SITE) {
  const int32_t coordinates[] = {x, y, z, w};
  detail::bulk_load_box(shared, map, barrier, coordinates, 4, file, line);
}
// Successive bytes, a multiple of 16, both sides at multiples of 16.
inline void bulk_load(uint32_t shared, const void* source, uint32_t bytes, uint32_t barrier,
                      SIMT_SITE) {
  detail::bulk_load(shared, source, bytes, barrier, file, line);
}
inline void bulk_store(void* target, uint32_t shared, uint32_t bytes, SIMT_SITE) {
  detail::bulk_store(target, shared, bytes, file, line);
}
inline void bulk_commit() { detail::bulk_commit(); }
// Returns when at most kPending of this thread's latest groups of stores still read their source.
template <int kPending>
inline void bulk_wait_read() {
  static_assert(kPending >= 0, "a number of groups");
  detail::bulk_wait(kPending);
}
inline void bulk_prefetch_l2(const void* source, uint32_t bytes, SIMT_SITE) {
  detail::bulk_prefetch(source, bytes, file, line);
}

// Orders what threads did to shared memory by ordinary accesses (cp.async and stmatrix among them)
// before what bulk copies and wgmma do to it.
inline void fence_proxy_async() { detail::fence_proxy_async(); }

// --- matrices ------------------------------------------------------------------------------------

// ldmatrix's other way: lane l gives the address of row l % 8 of matrix l / 8 and holds elements
// (l / 4, 2 (l % 4)) and the next of each matrix; trans: (2 (l % 4), l / 4) and that of the next row.
inline void stmatrix_x4(uint32_t shared, const uint32_t (&in)[4], SIMT_SITE) {
  detail::store_matrix(in, 4, false, shared, file, line);
}
inline void stmatrix_x2(uint32_t shared, const uint32_t (&in)[2], SIMT_SITE) {
  detail::store_matrix(in, 2, false, shared, file, line);
}
inline void stmatrix_x1(uint32_t shared, const uint32_t (&in)[1], SIMT_SITE) {
  detail::store_matrix(in, 1, false, shared, file, line);
}
inline void stmatrix_x4_trans(uint32_t shared, const uint32_t (&in)[4], SIMT_SITE) {
  detail::store_matrix(in, 4, true, shared, file, line);
}
inline void stmatrix_x2_trans(uint32_t shared, const uint32_t (&in)[2], SIMT_SITE) {
  detail::store_matrix(in, 2, true, shared, file, line);
}
inline void stmatrix_x1_trans(uint32_t shared, const uint32_t (&in)[1], SIMT_SITE) {
  detail::store_matrix(in, 1, true, shared, file, line);
}

// d [64, kColumns] (+)= a [64, 16] b [kColumns, 16]^T by the four warps 4i … 4i + 3, both operands in
// shared memory, K side by side, swizzled. Element i of a thread is of row
// 16 (warp % 4) + lane / 4 + 8 (i / 2 % 2) and column 8 (i / 4) + 2 (lane % 4) + i % 2.
inline void wgmma_fence(SIMT_SITE) { detail::wgmma_fence(file, line); }
template <int kColumns>
inline void wgmma_m64k16_bf16(float (&d)[kColumns / 2], uint64_t a, uint64_t b, bool adds,
                              SIMT_SITE) {
  static_assert(kColumns % 8 == 0 && kColumns >= 8 && kColumns <= 256, "columns of a wgmma");
  detail::wgmma({true, kColumns}, d, a, b, adds, file, line);
}
template <int kColumns>
inline void wgmma_m64k16_f16(float (&d)[kColumns / 2], uint64_t a, uint64_t b, bool adds,
                             SIMT_SITE) {
  static_assert(kColumns % 8 == 0 && kColumns >= 8 && kColumns <= 256, "columns of a wgmma");
  detail::wgmma({false, kColumns}, d, a, b, adds, file, line);
}
inline void wgmma_commit(SIMT_SITE) { detail::wgmma_commit(file, line); }
// Returns when at most kPending of the latest groups are still computed.
template <int kPending>
inline void wgmma_wait(SIMT_SITE) {
  static_assert(kPending >= 0, "a number of groups");
  detail::wgmma_wait(kPending, file, line);
}

// --- roles ---------------------------------------------------------------------------------------

// A barrier of `threads` threads, a multiple of 32; id 0 is that of __syncthreads and not for use
// here. Some may only arrive.
inline void named_barrier_sync(uint32_t id, uint32_t threads, SIMT_SITE) {
  detail::named_barrier(id, threads, true, file, line);
}
inline void named_barrier_arrive(uint32_t id, uint32_t threads, SIMT_SITE) {
  detail::named_barrier(id, threads, false, file, line);
}
// All four warps of a group: registers of each thread from now on, a multiple of 8 from 24 to 256.
// Raising waits until others have given enough away.
template <int kRegisters>
inline void set_max_registers_dec(SIMT_SITE) {
  detail::set_max_registers(kRegisters, false, file, line);
}
template <int kRegisters>
inline void set_max_registers_inc(SIMT_SITE) {
  detail::set_max_registers(kRegisters, true, file, line);
}
// True for one lane of the mask, always the same one.
inline bool elect_one(unsigned mask = 0xffffffffu, SIMT_SITE) {
  return detail::elect(mask, file, line);
}

#undef SIMT_SITE

}  // namespace simt::ptx
