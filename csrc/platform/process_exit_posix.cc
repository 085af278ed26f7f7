#include <cstdlib>

#include "platform/process_exit.h"

namespace sparse_experts::platform {

void at_process_exit(void (*action)()) { std::atexit(action); }

}  // namespace sparse_experts::platform
