// The processors of this machine.
#pragma once

#include <string>

namespace sparse_experts::platform {

// How many this process may use, at least 1: the affinity mask, on Linux cut to the CPU quota of the container (cgroup v2 or v1,
// rounded up) where there is one. More threads than a quota allows are stopped in turn, in the middle of a
// forward.
int available_processors();
// What its maker calls it; "CPU" where the system does not tell.
std::string processor_name();

}  // namespace sparse_experts::platform
