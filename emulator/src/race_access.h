// From the hooks to the detector.
#pragma once

#include <cstddef>

namespace simt::detail {

struct Thread;

enum class AccessType { kRead, kWrite, kAtomic };

// An access of the kernel's own code; `pc` lies behind it.
void race_kernel_access(Thread* thread, AccessType type, const void* pointer, size_t bytes,
                        const void* pc);

}  // namespace simt::detail
