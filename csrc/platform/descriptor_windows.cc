#include "platform/descriptor.h"

namespace sparse_experts::platform {

// Nothing that this package opens on Windows has one.
void wait_readable(int /*descriptor*/, int64_t /*timeout_ns*/) {}

}  // namespace sparse_experts::platform
