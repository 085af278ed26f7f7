// Fibers: stacks that code can leave in the middle and come back to. A switch is a dozen
// instructions on x86-64 and AArch64, and ucontext elsewhere (fifteen times slower).
// AddressSanitizer is told of every switch, else it would take a fiber's stack for garbage.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif
#if !defined(SIMT_ASAN)
#define SIMT_ASAN 0
#endif

#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(SIMT_UCONTEXT)
#define SIMT_ASM_FIBERS 1
#else
#define SIMT_ASM_FIBERS 0
#include <ucontext.h>
#endif

#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt::detail {

struct Fiber {
#if SIMT_ASM_FIBERS
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  char* stack = nullptr;  // the lowest address; null for an OS thread's own stack
  size_t stack_bytes = 0;
  bool abandoned = false;  // left in the middle, for good
#if SIMT_ASAN
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t bottom_bytes = 0;
#endif
};

// Stacks with a guard page below each, in one mapping.
class StackPool {
 public:
  StackPool() = default;
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  // At least `count` stacks of `bytes`; what was there before is gone if either has to grow.
  // False: no memory.
  bool reserve(size_t count, size_t bytes);
  char* stack(size_t index) const { return base_ + index * stride_ + guard_; }
  size_t stack_bytes() const { return stride_ - guard_; }
  size_t count() const { return count_; }

 private:
  void release();

  char* base_ = nullptr;
  size_t count_ = 0;
  size_t stride_ = 0;
  size_t guard_ = 0;
};

// The fiber's next switch_to starts `entry` on its stack, which must never return. `colour` shifts
// the start a little, so that the tops of many stacks do not share the same cache sets.
void prepare(Fiber* fiber, void (*entry)(), unsigned colour);

// First thing in `entry`. `previous` gets the bounds of the stack we came from.
void entered(Fiber* fiber, Fiber* previous);

// Leaves `from` (the running one) and goes on with `to`. `dying`: `from` will not be resumed.
void switch_fiber(Fiber* from, Fiber* to, bool dying);

}  // namespace simt::detail
