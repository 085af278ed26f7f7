// The five stages as functions of the addon: gate, selectExperts, dispatch, expertMatmul, combine.
// Synchronous, on host arrays.
#pragma once

#include "binding/napi_setup.h"

namespace sparse_experts::binding {

void define_stages(Napi::Env env, Napi::Object exports);

}  // namespace sparse_experts::binding
