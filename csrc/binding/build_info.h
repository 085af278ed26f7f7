// Which compiler and which switches made this binary: for bug reports.
#pragma once

#include <string>

namespace sparse_experts::binding {

// For example "gcc 12.2.0, release, address+undefined sanitizers".
std::string build_info();

}  // namespace sparse_experts::binding
