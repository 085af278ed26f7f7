// Reading the request of a forward.
#pragma once

#include <array>
#include <memory>

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/device_memory.h"
#include "engine/layer.h"

namespace sparse_experts::binding {

enum ForwardArray {
  kHidden,
  kRouterInputArray,
  kOutput,
  kTokenIds,
  kRowTopK,
  kSequenceLengths,
  kTopkIds,
  kTopkWeights,
  kNonFinite,
  kNumForwardArrays
};

extern const std::array<const char*, kNumForwardArrays> kArrayNames;

// The request as read: views are valid until JavaScript runs again.
struct ForwardRequest {
  int64_t num_tokens = 0;
  int32_t dtype = SE_F32;
  int64_t call_top_k = 0;
  double top_p = 1;
  bool replay = false;
  std::array<Napi::Value, kNumForwardArrays> values;
  std::array<ArrayView, kNumForwardArrays> views;
  std::array<bool, kNumForwardArrays> is_present = {};
  std::array<std::shared_ptr<DeviceMemory>, kNumForwardArrays> device_memory;

  bool writes(int array) const;
};

ForwardRequest parse_forward_request(const Napi::Value& value, const LayerState& state);

}  // namespace sparse_experts::binding
