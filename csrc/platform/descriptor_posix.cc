#include <poll.h>

#include <algorithm>

#include "platform/descriptor.h"

namespace sparse_experts::platform {

void wait_readable(int descriptor, int64_t timeout_ns) {
  // Rounded up: a wait that ends before its time would be begun again and again.
  constexpr int64_t kNanoseconds = 1'000'000;
  constexpr int64_t kLongest = 60'000;
  const int64_t milliseconds = std::max<int64_t>(0, (timeout_ns + kNanoseconds - 1) / kNanoseconds);
  pollfd waited = {descriptor, POLLIN, 0};
  ::poll(&waited, 1, static_cast<int>(std::min(milliseconds, kLongest)));
}

}  // namespace sparse_experts::platform
