// What a layer will take, from headers alone.
#pragma once

#include "binding/napi_setup.h"

namespace sparse_experts::binding {

// (description), as in lib/devices/native/binding-contract.ts.
Napi::Value measure_layer(const Napi::CallbackInfo& info);

}  // namespace sparse_experts::binding
