// The CPU backend's function table.
#pragma once

#include "abi/backend.h"

namespace sparse_experts {

const SeBackend* cpu_backend();

}  // namespace sparse_experts
