// The table of allocations: what is where, how it is freed, and whether a range lies inside of one.
// All with the runtime's mutex held.
#pragma once

#include <string>

#include "runtime/state.h"

namespace simt::runtime {

enum class Place { kOutside, kInside, kAcross };

// Where a range lies: outside of every allocation, inside of one, or across an end of one.
struct Located {
  Place place = Place::kOutside;
  Allocation allocation;  // kInside
};
Located locate(const Runtime& state, const void* pointer, size_t bytes);

// New memory, 0xFF throughout, with exactly `bytes` bytes (so that AddressSanitizer sees overruns).
// Null: the device has not enough left, or the machine.
void* allocate(Runtime& state, MemoryKind kind, int device, size_t bytes);

// Frees an allocation, or forgets a registered one.
void release(Runtime& state, uintptr_t address);

// How one side of a copy may be placed.
enum class Side { kDevice, kHost, kAny };
bool side_allows(const Runtime& state, Side side, const void* pointer, size_t bytes);

}  // namespace simt::runtime
