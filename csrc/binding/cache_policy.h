// The engine's cache policy without a cache: what simulate() counts with.
#pragma once

#include "binding/napi_setup.h"

namespace sparse_experts::binding {

void define_cache_policy(Napi::Env env, Napi::Object exports);

}  // namespace sparse_experts::binding
