// How a function of the C ABI begins on a device: one that is lost answers first.
#pragma once

#include "abi/guarded.h"
#include "cuda/runtime/device.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {

template <typename Body>
int32_t guarded_on(SeDevice* device, SeStatus* status, const Body& body) {
  return guarded(status, [&]() -> Status {
    SE_RETURN_IF_ERROR(device->enter());
    return body();
  });
}

}  // namespace sparse_experts::cuda
