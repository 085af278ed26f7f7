// Environment variables.
#pragma once

#include <string>

namespace sparse_experts::platform {

// The value as it is now, also where JavaScript has set process.env; empty where there is none.
std::string environment_variable(const char* name);

}  // namespace sparse_experts::platform
