// Instructions that a processor of AArch64 may have or lack.
#pragma once

namespace sparse_experts::platform {

// SDOT and UDOT: sums of products of bytes. False where the system does not tell.
bool has_dot_products();
// SMMLA: products of 2 x 8 bytes by 8 x 2 bytes. False where the system does not tell.
bool has_matrix_products();

}  // namespace sparse_experts::platform
