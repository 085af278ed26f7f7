#include <cstdlib>

#include "platform/environment.h"

namespace sparse_experts::platform {

std::string environment_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace sparse_experts::platform
