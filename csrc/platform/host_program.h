// Windows only: the program that has loaded this library. Elsewhere the linker does both.
#pragma once

namespace sparse_experts::platform {

// Keeps this library in memory until the process ends.
void keep_this_library();
// A function of that program; null where it has none of this name.
void* host_symbol(const char* name);

}  // namespace sparse_experts::platform
