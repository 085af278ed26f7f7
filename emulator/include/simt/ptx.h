// Host twins of thin PTX wrappers (sm_80): asynchronous copies, ldmatrix, mma, fma on pairs. Shared addresses are
// 32-bit numbers from smem_u32, as on the device; each is checked for alignment and range.
//   - a copy's destination holds 0xFF from the issue to the wait that covers it
//   - ldmatrix and mma are collectives of the full warp
#pragma once

#include <cstdint>

#include "simt/types.h"

namespace simt::detail {

uint32_t shared_address(const void* pointer, const char* file, int line);
void copy_async(uint32_t shared, const void* source, uint32_t bytes, uint32_t size,
                const char* file, int line);
void copy_async_commit();
void copy_async_wait(unsigned pending);
void load_matrix(uint32_t* out, int matrices, bool transpose, uint32_t shared, const char* file,
                 int line);
enum class MmaType { kBf16, kF16 };
void mma_m16n8k16(MmaType type, float* d, const uint32_t* a, const uint32_t* b, const char* file,
                  int line);
uint32_t fma_halves(MmaType type, uint32_t a, uint32_t b, uint32_t c);
void dependency_wait();
void launch_dependents(const char* file, int line);
uint4 load_vector(const void* source, const char* file, int line);

}  // namespace simt::detail

namespace simt::ptx {

#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline uint32_t smem_u32(const void* shared, SIMT_SITE) {
  return detail::shared_address(shared, file, line);
}

// Copies `bytes` of `source` to 16 (or 4) bytes of shared memory and fills the rest with zeros.
inline void cp_async_16(uint32_t shared, const void* source, uint32_t bytes, SIMT_SITE) {
  detail::copy_async(shared, source, bytes, 16, file, line);
}
inline void cp_async_16(uint32_t shared, const void* source, SIMT_SITE) {
  detail::copy_async(shared, source, 16, 16, file, line);
}
inline void cp_async_4(uint32_t shared, const void* source, uint32_t bytes, SIMT_SITE) {
  detail::copy_async(shared, source, bytes, 4, file, line);
}
inline void cp_async_commit() { detail::copy_async_commit(); }

// Returns when at most kPending of this thread's latest groups are still under way.
template <int kPending>
inline void cp_async_wait() {
  static_assert(kPending >= 0, "a number of groups");
  detail::copy_async_wait(kPending);
}

// griddepcontrol: waits for the end of the launches before; lets the next one start.
inline void dependency_wait() { detail::dependency_wait(); }
inline void launch_dependents(SIMT_SITE) { detail::launch_dependents(file, line); }

inline void ldmatrix_x4(uint32_t (&out)[4], uint32_t shared, SIMT_SITE) {
  detail::load_matrix(out, 4, false, shared, file, line);
}
inline void ldmatrix_x2(uint32_t (&out)[2], uint32_t shared, SIMT_SITE) {
  detail::load_matrix(out, 2, false, shared, file, line);
}
inline void ldmatrix_x4_trans(uint32_t (&out)[4], uint32_t shared, SIMT_SITE) {
  detail::load_matrix(out, 4, true, shared, file, line);
}
inline void ldmatrix_x2_trans(uint32_t (&out)[2], uint32_t shared, SIMT_SITE) {
  detail::load_matrix(out, 2, true, shared, file, line);
}

// d += a b in f32: products exact, summed one by one in rising k. Tensor cores may align and
// truncate the terms differently, so do not ask for equal bits.
inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              SIMT_SITE) {
  detail::mma_m16n8k16(detail::MmaType::kBf16, d, a, b, file, line);
}
inline void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             SIMT_SITE) {
  detail::mma_m16n8k16(detail::MmaType::kF16, d, a, b, file, line);
}

// a b + c on pairs of elements, each rounded once.
inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  return detail::fma_halves(detail::MmaType::kBf16, a, b, c);
}
inline uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
  return detail::fma_halves(detail::MmaType::kF16, a, b, c);
}

// 16 bytes of global memory.
inline uint4 load_streaming(const void* source, SIMT_SITE) {
  return detail::load_vector(source, file, line);
}

#undef SIMT_SITE

}  // namespace simt::ptx
