// The functions that code compiled with -fsanitize=thread calls at every access. Outside of kernels
// they do nothing (atomics: only their work).
#include <cstring>

#include "block.h"
#include "race_access.h"

namespace {

using simt::detail::AccessType;

inline void hook(AccessType type, const void* pointer, size_t bytes, bool aligned, const void* pc) {
  simt::detail::Thread* thread = simt::detail::self_or_null();
  if (thread == nullptr || !thread->in_kernel) return;
  simt::detail::race_kernel_access(thread, type, pointer, bytes, aligned, pc);
}

}  // namespace

#define SIMT_HOOK_WITH(type, pointer, bytes, aligned)                                         \
  hook(AccessType::type, const_cast<const void*>(static_cast<const volatile void*>(pointer)), \
       bytes, aligned, __builtin_return_address(0))
#define SIMT_HOOK(type, pointer, bytes) SIMT_HOOK_WITH(type, pointer, bytes, true)
#define SIMT_HOOK_ANYWHERE(type, pointer, bytes) SIMT_HOOK_WITH(type, pointer, bytes, false)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_ignore_thread_begin() {}
void __tsan_ignore_thread_end() {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}

#define SIMT_PLAIN(bytes)                                                                        \
  void __tsan_read##bytes(void* p) { SIMT_HOOK(kRead, p, bytes); }                               \
  void __tsan_write##bytes(void* p) { SIMT_HOOK(kWrite, p, bytes); }                             \
  void __tsan_unaligned_read##bytes(void* p) { SIMT_HOOK_ANYWHERE(kRead, p, bytes); }            \
  void __tsan_unaligned_write##bytes(void* p) { SIMT_HOOK_ANYWHERE(kWrite, p, bytes); }          \
  void __tsan_volatile_read##bytes(void* p) { SIMT_HOOK(kRead, p, bytes); }                      \
  void __tsan_volatile_write##bytes(void* p) { SIMT_HOOK(kWrite, p, bytes); }                    \
  void __tsan_unaligned_volatile_read##bytes(void* p) { SIMT_HOOK_ANYWHERE(kRead, p, bytes); }   \
  void __tsan_unaligned_volatile_write##bytes(void* p) { SIMT_HOOK_ANYWHERE(kWrite, p, bytes); } \
  void __tsan_read_write##bytes(void* p) {                                                       \
    SIMT_HOOK(kRead, p, bytes);                                                                  \
    SIMT_HOOK(kWrite, p, bytes);                                                                 \
  }
SIMT_PLAIN(1)
SIMT_PLAIN(2)
SIMT_PLAIN(4)
SIMT_PLAIN(8)
SIMT_PLAIN(16)
#undef SIMT_PLAIN

void __tsan_read_range(void* p, unsigned long bytes) { SIMT_HOOK_ANYWHERE(kRead, p, bytes); }
void __tsan_write_range(void* p, unsigned long bytes) { SIMT_HOOK_ANYWHERE(kWrite, p, bytes); }
void __tsan_vptr_read(void** p) { SIMT_HOOK(kRead, p, sizeof(void*)); }
void __tsan_vptr_update(void** p, void*) { SIMT_HOOK(kWrite, p, sizeof(void*)); }

void* __tsan_memcpy(void* to, const void* from, unsigned long bytes) {
  SIMT_HOOK_ANYWHERE(kRead, from, bytes);
  SIMT_HOOK_ANYWHERE(kWrite, to, bytes);
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, unsigned long bytes) {
  SIMT_HOOK_ANYWHERE(kRead, from, bytes);
  SIMT_HOOK_ANYWHERE(kWrite, to, bytes);
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, unsigned long bytes) {
  SIMT_HOOK_ANYWHERE(kWrite, to, bytes);
  return std::memset(to, value, bytes);
}

#define SIMT_ATOMIC_FETCH(bits, T, name)                              \
  T __tsan_atomic##bits##_fetch_##name(volatile T* p, T value, int) { \
    SIMT_HOOK(kAtomic, p, sizeof(T));                                 \
    return __atomic_fetch_##name(p, value, __ATOMIC_SEQ_CST);         \
  }
#define SIMT_ATOMIC(bits, T)                                                                       \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                                         \
    SIMT_HOOK(kAtomic, p, sizeof(T));                                                              \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile T* p, T value, int) {                                  \
    SIMT_HOOK(kAtomic, p, sizeof(T));                                                              \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                  \
  }                                                                                                \
  T __tsan_atomic##bits##_exchange(volatile T* p, T value, int) {                                  \
    SIMT_HOOK(kAtomic, p, sizeof(T));                                                              \
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                                        \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T value, int,      \
                                                    int) {                                         \
    SIMT_HOOK(kAtomic, p, sizeof(T));                                                              \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,                \
                                       __ATOMIC_SEQ_CST);                                          \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T value, int, int) { \
    SIMT_HOOK(kAtomic, p, sizeof(T));                                                              \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,                \
                                       __ATOMIC_SEQ_CST);                                          \
  }                                                                                                \
  T __tsan_atomic##bits##_compare_exchange_val(volatile T* p, T expected, T value, int, int) {     \
    SIMT_HOOK(kAtomic, p, sizeof(T));                                                              \
    __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);   \
    return expected;                                                                               \
  }                                                                                                \
  SIMT_ATOMIC_FETCH(bits, T, add)                                                                  \
  SIMT_ATOMIC_FETCH(bits, T, sub)                                                                  \
  SIMT_ATOMIC_FETCH(bits, T, and)                                                                  \
  SIMT_ATOMIC_FETCH(bits, T, or)                                                                   \
  SIMT_ATOMIC_FETCH(bits, T, xor)                                                                  \
  SIMT_ATOMIC_FETCH(bits, T, nand)
SIMT_ATOMIC(8, unsigned char)
SIMT_ATOMIC(16, unsigned short)
SIMT_ATOMIC(32, unsigned)
SIMT_ATOMIC(64, unsigned long)

}  // extern "C"
