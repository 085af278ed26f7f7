// How a backend keeps the rule that no exception crosses the C ABI.
#pragma once

#include <cstdio>
#include <exception>
#include <new>

#include "abi/backend.h"

namespace sparse_experts {

// Runs `body`, which returns a Status, and writes that; what it throws becomes a status too.
// `status` may be null.
template <typename Body>
int32_t guarded(SeStatus* status, const Body& body) {
  try {
    return body().write_to(status);
  } catch (const std::bad_alloc&) {
    if (status != nullptr) *status = SeStatus{SE_OUT_OF_MEMORY, "out of memory", 0, 0};
    return SE_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    if (status != nullptr) {
      *status = SeStatus{SE_INTERNAL, "", 0, 0};
      std::snprintf(status->message, sizeof status->message, "%s", error.what());
    }
    return SE_INTERNAL;
  } catch (...) {
    if (status != nullptr) *status = SeStatus{SE_INTERNAL, "unknown failure", 0, 0};
    return SE_INTERNAL;
  }
}

}  // namespace sparse_experts
