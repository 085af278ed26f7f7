#include <sys/auxv.h>

#include "platform/arm_instructions.h"

namespace sparse_experts::platform {

bool has_dot_products() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }

}  // namespace sparse_experts::platform
