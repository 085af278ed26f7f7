// From the hooks to the detector.
#pragma once

#include <cstddef>

namespace simt::detail {

struct Thread;

enum class AccessType { kRead, kWrite, kAtomic };

// An access of the kernel's own code; `pc` lies behind it. `aligned`: by its type it has to be at a
// multiple of its size (of 8 if that is more: the compiler promises no more).
void race_kernel_access(Thread* thread, AccessType type, const void* pointer, size_t bytes,
                        bool aligned, const void* pc);

}  // namespace simt::detail
