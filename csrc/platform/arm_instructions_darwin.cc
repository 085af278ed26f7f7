#include <sys/sysctl.h>

#include <cstddef>

#include "platform/arm_instructions.h"

namespace sparse_experts::platform {

bool has_dot_products() {
  int has = 0;
  size_t bytes = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &bytes, nullptr, 0) == 0 && has != 0;
}

}  // namespace sparse_experts::platform
