// Systems that are not asked.
#include "platform/arm_instructions.h"

namespace sparse_experts::platform {

bool has_dot_products() { return false; }

bool has_matrix_products() { return false; }

}  // namespace sparse_experts::platform
