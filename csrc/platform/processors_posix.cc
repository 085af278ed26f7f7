// POSIX systems other than Linux.
#include <algorithm>
#include <thread>

#include "platform/processors.h"

namespace sparse_experts::platform {

std::string processor_name() { return "CPU"; }

int available_processors() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace sparse_experts::platform
