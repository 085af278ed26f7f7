// Device memory as the engine knows it: a runtime registers what it allocates (every kind that a
// kernel may touch: device, pinned, managed), so that checks can tell valid addresses.
// Only the race flavour looks at it; elsewhere AddressSanitizer watches the allocations.
#pragma once

#include <cstddef>

namespace simt {

void register_allocation(const void* pointer, size_t bytes);
void unregister_allocation(const void* pointer);

// The registered allocation that holds the address: its start and size. False if none does.
bool find_allocation(const void* address, const void** start, size_t* bytes);

}  // namespace simt
