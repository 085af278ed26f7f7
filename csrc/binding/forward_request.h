// Reading the request of a forward: the arguments of the backend's, and whose memory they point to.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/device_memory.h"
#include "engine/forward_arrays.h"
#include "engine/layer.h"

namespace sparse_experts::binding {

extern const std::array<const char*, kNumForwardArrays> kArrayNames;

// As read: pointers are valid until JavaScript runs again.
struct ForwardRequest {
  struct Array {
    Napi::Value value;
    bool is_present = false;
    bool writes = false;
    bool is_in_place = false;  // what the request's inPlace says of it
    void* data = nullptr;
    uint64_t bytes = 0;
    std::shared_ptr<DeviceMemory> device_memory;  // where `data` is a NativeBuffer's
  };
  // What has yet to be copied into arrays that are used in place.
  struct Copy {
    void* to = nullptr;
    const void* from = nullptr;
    uint64_t bytes = 0;
  };
  std::array<Array, kNumForwardArrays> arrays;
  std::vector<Copy> copies;
  SeForwardArgs args = {};
};

// Kinds, and lengths by numTokens. Ranges are lib's to say, and the backend's to check where they
// lead outside of an array.
ForwardRequest read_forward_request(const Napi::Value& value, const LayerState& layer);

}  // namespace sparse_experts::binding
