// The engine's failures as JavaScript errors, with the code under `moeCode`.
#pragma once

#include <utility>

#include "binding/napi_setup.h"
#include "engine/failure.h"

namespace sparse_experts::binding {

// The binding is a coat over the engine and uses its names as its own.
using namespace engine;  // NOLINT(google-build-using-namespace)

// A plain Error with `moeCode`, and `neededBytes` and `freeBytes` when memory ran out. JS thread
// only.
Napi::Error make_error(Napi::Env env, const Failure& failure);

// Runs a callback's body; whatever it throws arrives in JavaScript as one of the errors above.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw make_error(env, current_failure());
  }
}

}  // namespace sparse_experts::binding
