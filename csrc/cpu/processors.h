// How many processors this process may use.
#pragma once

namespace sparse_experts::cpu {

// At least 1: the affinity mask, cut to the CPU quota of the container (cgroup v2 or v1, rounded
// up) where there is one. More threads than a quota allows are stopped in turn, in the middle of a
// forward.
int available_processors();

}  // namespace sparse_experts::cpu
