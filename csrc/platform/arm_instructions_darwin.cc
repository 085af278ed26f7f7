#include <sys/sysctl.h>

#include <cstddef>

#include "platform/arm_instructions.h"

namespace sparse_experts::platform {
namespace {

bool has_feature(const char* name) {
  int has = 0;
  size_t bytes = sizeof has;
  return sysctlbyname(name, &has, &bytes, nullptr, 0) == 0 && has != 0;
}

}  // namespace

bool has_dot_products() { return has_feature("hw.optional.arm.FEAT_DotProd"); }

bool has_matrix_products() { return has_feature("hw.optional.arm.FEAT_I8MM"); }

}  // namespace sparse_experts::platform
