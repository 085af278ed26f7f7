// The switch itself: callee-saved registers on the old stack, stack pointers swapped, registers of
// the new one. Floating-point control words are left alone: kernels do not change them.
#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#if SIMT_ASM_FIBERS

extern "C" void simt_switch_stacks(void** from, void* to);

#if defined(__x86_64__)
__asm__(R"(
.text
.p2align 4
.globl simt_switch_stacks
.hidden simt_switch_stacks
.type simt_switch_stacks, @function
simt_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stacks, . - simt_switch_stacks
)");
#else
__asm__(R"(
.text
.p2align 4
.globl simt_switch_stacks
.hidden simt_switch_stacks
.type simt_switch_stacks, %function
simt_switch_stacks:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size simt_switch_stacks, . - simt_switch_stacks
)");
#endif

#endif

namespace simt::detail {

StackPool::~StackPool() { release(); }

void StackPool::release() {
  if (base_ == nullptr) return;
#if SIMT_ASAN
  // Whoever is given these addresses next must not find the frames' red zones.
  __asan_unpoison_memory_region(base_, stride_ * count_);
#endif
  munmap(base_, stride_ * count_);
  base_ = nullptr;
  count_ = 0;
}

bool StackPool::reserve(size_t count, size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t stride = (bytes + page - 1) / page * page + page;
  if (count <= count_ && stride == stride_) return true;
  release();
  void* memory = mmap(nullptr, stride * count, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  base_ = static_cast<char*>(memory);
  count_ = count;
  stride_ = stride;
  guard_ = page;
  for (size_t i = 0; i < count; ++i) mprotect(base_ + i * stride, page, PROT_NONE);
  return true;
}

void prepare(Fiber* fiber, void (*entry)(), unsigned colour) {
#if SIMT_ASAN
  // A fiber that ended normally leaves only its last frames poisoned.
  const size_t dirty = fiber->abandoned ? fiber->stack_bytes : 8192;
  __asan_unpoison_memory_region(fiber->stack + fiber->stack_bytes - dirty, dirty);
  fiber->fake_stack = nullptr;
  fiber->bottom = fiber->stack;
  fiber->bottom_bytes = fiber->stack_bytes;
#endif
  fiber->abandoned = false;
#if SIMT_ASM_FIBERS
  char* top = fiber->stack + fiber->stack_bytes - colour % 32 * 128;
#if defined(__x86_64__)
  // As if called: the stack pointer is 8 below a multiple of 16 when `entry` starts.
  void** slots = reinterpret_cast<void**>(top) - 8;
  std::memset(slots, 0, 8 * sizeof(void*));
  slots[6] = reinterpret_cast<void*>(entry);
  fiber->stack_pointer = slots;
#else
  char* frame = top - 160;
  std::memset(frame, 0, 160);
  void* link = reinterpret_cast<void*>(entry);
  std::memcpy(frame + 88, &link, sizeof link);
  fiber->stack_pointer = frame;
#endif
#else
  static_cast<void>(colour);
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = fiber->stack_bytes;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, entry, 0);
#endif
}

void entered(Fiber* fiber, Fiber* previous) {
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(fiber->fake_stack, &previous->bottom, &previous->bottom_bytes);
#else
  static_cast<void>(fiber);
  static_cast<void>(previous);
#endif
}

void switch_fiber(Fiber* from, Fiber* to, bool dying) {
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(dying ? nullptr : &from->fake_stack, to->bottom, to->bottom_bytes);
#else
  static_cast<void>(dying);
#endif
#if SIMT_ASM_FIBERS
  simt_switch_stacks(&from->stack_pointer, to->stack_pointer);
#else
  swapcontext(&from->context, &to->context);
#endif
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

}  // namespace simt::detail
