// Bringing a layer's matrices to the device.
#pragma once

#include "abi/backend.h"
#include "core/status.h"

namespace sparse_experts::cuda {

// Rows of floats: one copy where the source is dense, else pieces that are gathered on the host first.
// Codes: packed on the host, some megabytes at a time.
Status write_matrix(SeDevice& device, const SeMatrixRows& rows);

}  // namespace sparse_experts::cuda
