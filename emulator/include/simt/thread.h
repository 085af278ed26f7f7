// What a thread of a kernel sees of its block: built-in variables, barriers, shared memory.
// Source lines travel along as default arguments; reports name them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simt/types.h"

namespace simt {

struct ThreadView {
  uint3 thread_index;
  uint3 block_index;
  dim3 block_dim;
  dim3 grid_dim;
};

// One array of shared memory in the source. Its address is the same for all threads of a block.
struct StaticShared {
  size_t element_bytes;
  size_t alignment;
  size_t count;
  const char* file;
  int line;
};

// The launch's dynamic shared memory, 1024-byte aligned.
unsigned char* dynamic_shared();

namespace detail {

// __thread and not thread_local: no initialiser may run on the way to it.
extern __thread const ThreadView* current_view;

#if defined(__SANITIZE_THREAD__) || defined(SIMT_INSTRUMENTED_VIEW)
// The race flavour watches every access of a kernel: this one stays out of sight.
const ThreadView& view();
#else
__attribute__((always_inline)) inline const ThreadView& view() { return *current_view; }
#endif

void* static_shared(const StaticShared* site);

enum class BarrierKind { kPlain, kOr, kAnd, kCount };
int block_barrier(BarrierKind kind, int predicate, const char* file, int line);
void warp_barrier(unsigned mask, const char* file, int line);

}  // namespace detail
}  // namespace simt

// Macros, because every thread has its own: do not name members like this.
#define threadIdx (::simt::detail::view().thread_index)
#define blockIdx (::simt::detail::view().block_index)
#define blockDim (::simt::detail::view().block_dim)
#define gridDim (::simt::detail::view().grid_dim)
static constexpr int warpSize = 32;

// An array of `count` elements, one per block: `float* sums = SIMT_STATIC_SHARED(float, 32);`
#define SIMT_STATIC_SHARED(type, count)                                                   \
  (static_cast<type*>(::simt::detail::static_shared([]() -> const ::simt::StaticShared* { \
    static constexpr ::simt::StaticShared kSite = {                                       \
        sizeof(type), alignof(type), static_cast<size_t>(count), __FILE__, __LINE__};     \
    return &kSite;                                                                        \
  }())))

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simt::detail::block_barrier(simt::detail::BarrierKind::kPlain, 0, file, line);
}
inline int __syncthreads_or(int predicate, const char* file = __builtin_FILE(),
                            int line = __builtin_LINE()) {
  return simt::detail::block_barrier(simt::detail::BarrierKind::kOr, predicate, file, line);
}
inline int __syncthreads_and(int predicate, const char* file = __builtin_FILE(),
                             int line = __builtin_LINE()) {
  return simt::detail::block_barrier(simt::detail::BarrierKind::kAnd, predicate, file, line);
}
inline int __syncthreads_count(int predicate, const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) {
  return simt::detail::block_barrier(simt::detail::BarrierKind::kCount, predicate, file, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  simt::detail::warp_barrier(mask, file, line);
}

// Fences order nothing here: blocks run one after another, and a block on one OS thread. The race
// flavour does not take them for synchronisation either.
inline void __threadfence() { __asm__ volatile("" ::: "memory"); }
inline void __threadfence_block() { __asm__ volatile("" ::: "memory"); }
inline void __threadfence_system() { __asm__ volatile("" ::: "memory"); }
