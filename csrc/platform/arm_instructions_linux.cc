#include <sys/auxv.h>

#include "platform/arm_instructions.h"

namespace sparse_experts::platform {
namespace {

// HWCAP2_I8MM, which older C libraries do not name.
constexpr unsigned long kI8mm = 1UL << 13;

}  // namespace

bool has_dot_products() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }

bool has_matrix_products() { return (getauxval(AT_HWCAP2) & kI8mm) != 0; }

}  // namespace sparse_experts::platform
