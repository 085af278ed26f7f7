// The end of the process.
#pragma once

namespace sparse_experts::platform {

// Runs `action` when the process ends by exit(), while its other threads still run. Where the system
// ends all other threads first, as Windows does, nothing is left to be done and it is not run.
void at_process_exit(void (*action)());

}  // namespace sparse_experts::platform
