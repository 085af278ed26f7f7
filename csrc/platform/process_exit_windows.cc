#include "platform/process_exit.h"

namespace sparse_experts::platform {

// A library's handlers run after the system has ended all other threads, wherever they were: a mutex
// that one of them held stays locked, so even asking for one could hang.
void at_process_exit(void (*)()) {}

}  // namespace sparse_experts::platform
