// The five stages as functions of the addon: gate, selectExperts, dispatch, expertMatmul, combine.
// Synchronous; each array is a typed array or a NativeBuffer of the device.
#pragma once

#include "binding/napi_setup.h"

namespace sparse_experts::binding {

void define_stages(Napi::Env env, Napi::Object exports);

}  // namespace sparse_experts::binding
