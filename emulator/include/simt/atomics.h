// Atomics on global and shared memory, relaxed as in CUDA. Only one thread runs at a time, but the
// race flavour must see that these accesses are atomic: hence the compiler's builtins.
#pragma once

#include <cstdint>
#include <cstring>

namespace simt::detail {

template <typename Bits, typename T, typename Update>
inline T atomic_update(T* address, Update update) {
  static_assert(sizeof(Bits) == sizeof(T), "same size");
  Bits* target = reinterpret_cast<Bits*>(address);
  Bits seen = __atomic_load_n(target, __ATOMIC_RELAXED);
  for (;;) {
    T old;
    std::memcpy(&old, &seen, sizeof old);
    const T wanted = update(old);
    Bits bits;
    std::memcpy(&bits, &wanted, sizeof bits);
    if (__atomic_compare_exchange_n(target, &seen, bits, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      return old;
    }
  }
}

}  // namespace simt::detail

#define SIMT_ATOMICS(T)                                                                      \
  inline T atomicAdd(T* address, T value) {                                                  \
    return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);                             \
  }                                                                                          \
  inline T atomicExch(T* address, T value) {                                                 \
    return __atomic_exchange_n(address, value, __ATOMIC_RELAXED);                            \
  }                                                                                          \
  inline T atomicAnd(T* address, T value) {                                                  \
    return __atomic_fetch_and(address, value, __ATOMIC_RELAXED);                             \
  }                                                                                          \
  inline T atomicOr(T* address, T value) {                                                   \
    return __atomic_fetch_or(address, value, __ATOMIC_RELAXED);                              \
  }                                                                                          \
  inline T atomicXor(T* address, T value) {                                                  \
    return __atomic_fetch_xor(address, value, __ATOMIC_RELAXED);                             \
  }                                                                                          \
  inline T atomicCAS(T* address, T compare, T value) {                                       \
    __atomic_compare_exchange_n(address, &compare, value, false, __ATOMIC_RELAXED,           \
                                __ATOMIC_RELAXED);                                           \
    return compare;                                                                          \
  }                                                                                          \
  inline T atomicMin(T* address, T value) {                                                  \
    return simt::detail::atomic_update<T>(address,                                           \
                                          [=](T old) { return value < old ? value : old; }); \
  }                                                                                          \
  inline T atomicMax(T* address, T value) {                                                  \
    return simt::detail::atomic_update<T>(address,                                           \
                                          [=](T old) { return value > old ? value : old; }); \
  }
SIMT_ATOMICS(int)
SIMT_ATOMICS(unsigned)
SIMT_ATOMICS(unsigned long long)
#undef SIMT_ATOMICS

inline int atomicSub(int* address, int value) {
  return __atomic_fetch_sub(address, value, __ATOMIC_RELAXED);
}
inline unsigned atomicSub(unsigned* address, unsigned value) {
  return __atomic_fetch_sub(address, value, __ATOMIC_RELAXED);
}
// The order of floating-point atomics is the schedule's: their sums differ from run to run.
inline float atomicAdd(float* address, float value) {
  return simt::detail::atomic_update<uint32_t>(address, [=](float old) { return old + value; });
}
inline double atomicAdd(double* address, double value) {
  return simt::detail::atomic_update<uint64_t>(address, [=](double old) { return old + value; });
}
