// Descriptors of the system that something can be waited for at.
#pragma once

#include <cstdint>

namespace sparse_experts::platform {

// Returns once there is something to read, after timeout_ns at the latest, or when a signal comes.
// Systems without such descriptors wait for nothing.
void wait_readable(int descriptor, int64_t timeout_ns);

}  // namespace sparse_experts::platform
